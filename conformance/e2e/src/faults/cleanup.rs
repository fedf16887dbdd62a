//! Clean-up after a crash of everything.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use aya::maps::{MapInfo, loaded_maps};
use aya::programs::{ProgramInfo, loaded_programs};
use mesh_testkit::namespace::command_in;
use mesh_testkit::wait;
use rustix::process::Signal;

use super::world::{World, routing, signal};
use super::{Length, Rig};

/// The kernel frees programs and maps a moment after their last holder has gone.
const FREED_WITHIN: Duration = Duration::from_secs(10);
const SERVED_WITHIN: Duration = Duration::from_secs(2);

pub(super) fn after_a_crash(rig: &Rig, length: Length) -> anyhow::Result<String> {
    let rounds = length.rounds(1, Duration::from_secs(10));
    let mut told = Vec::new();
    for _ in 0..rounds {
        told.push(once(rig)?);
    }
    Ok(told.join("\n"))
}

fn once(rig: &Rig) -> anyhow::Result<String> {
    let mut world = World::create(rig, &[])?;
    let node = world.stack.topology.node.name().to_owned();
    let before = routing(&node)?;
    world.stack.start_agent()?;
    world.stack.wait_ready()?;
    let traffic = world.traffic()?;
    traffic.answered_again(SERVED_WITHIN)?;
    let pins = world.stack.pin_root();
    let objects = Objects::pinned_below(&pins)?;
    ensure!(objects.programs.len() > 8 && objects.maps.len() > 8, "{objects:?}");
    ensure!(routing(&node)? != before, "the agent makes routes and rules");

    // Everything, the agent first: it would start the others anew. In the middle of traffic.
    let (worker, starter) = (world.worker()?, world.starter()?);
    world.stack.kill_agent()?;
    signal(starter, Signal::KILL)?;
    signal(worker, Signal::KILL)?;
    drop(traffic);

    let mut cleanup = world.stack.program("mesh-agent");
    cleanup.args(["cleanup", "--stop-proxy", "--run-dir"]).arg(world.stack.run_dir());
    cleanup.arg("--pin-root").arg(&pins);
    let output = cleanup.stdin(Stdio::null()).output().context("cannot start mesh-agent")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "cleanup fails: {said}");

    ensure!(!pins.exists(), "pins are left: {:?}", list(&pins));
    let after = routing(&node)?;
    ensure!(after == before, "rules and routes before:\n{before}\nafter:\n{after}");
    // Links and attachments to cgroups and devices hold their programs, programs hold their maps.
    wait::until("programs and maps are gone", FREED_WITHIN, || objects.ensure_gone())?;
    let filters = command_in(&node, "tc").args(["filter", "show", "dev", "mrup0", "ingress"]).output();
    if let Ok(filters) = filters {
        ensure!(filters.stdout.is_empty(), "filters: {}", String::from_utf8_lossy(&filters.stdout));
    }
    let sockets: Vec<String> =
        list(&world.stack.run_dir()).into_iter().filter(|name| name.ends_with(".sock")).collect();
    ensure!(sockets.is_empty(), "sockets that nobody serves are left: {sockets:?}");
    let again = cleanup.output().context("cannot start mesh-agent")?;
    ensure!(again.status.success(), "a second cleanup fails: {}", String::from_utf8_lossy(&again.stderr));
    Ok(format!(
        "{} programs and {} maps, {} lines of rules and routes: all gone; {}",
        objects.programs.len(),
        objects.maps.len(),
        after.lines().count(),
        said.lines().last().unwrap_or_default()
    ))
}

fn list(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Identifiers of what is pinned: in the whole kernel nobody else has them.
#[derive(Debug, Default)]
struct Objects {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
}

impl Objects {
    fn pinned_below(pins: &Path) -> anyhow::Result<Self> {
        let mut objects = Self::default();
        for name in list(pins).iter().filter(|name| name.starts_with("mr_")) {
            objects.maps.insert(MapInfo::from_pin(pins.join(name))?.id());
        }
        for name in list(&pins.join("progs")) {
            objects.programs.insert(ProgramInfo::from_pin(pins.join("progs").join(name))?.id());
        }
        // Programs that only a link holds are those that use our maps.
        for program in loaded_programs() {
            let program = program?;
            let uses = program.map_ids()?.unwrap_or_default();
            if uses.iter().any(|map| objects.maps.contains(map)) {
                objects.programs.insert(program.id());
            }
        }
        Ok(objects)
    }

    fn ensure_gone(&self) -> anyhow::Result<()> {
        let programs: BTreeSet<u32> = loaded_programs().flatten().map(|program| program.id()).collect();
        let maps: BTreeSet<u32> = loaded_maps().flatten().map(|map| map.id()).collect();
        let left: Vec<&u32> =
            self.programs.intersection(&programs).chain(self.maps.intersection(&maps)).collect();
        ensure!(left.is_empty(), "programs and maps {left:?} are still loaded");
        Ok(())
    }
}
