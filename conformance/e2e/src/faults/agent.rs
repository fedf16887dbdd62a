//! The agent dies, at any moment, also in the middle of a change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mesh_ebpf_abi::{ServiceFlags, ServiceKey};
use mesh_ebpf_maps::{LoadBalancerMaps, PinnedMaps};
use mesh_testkit::wait;

use super::world::{CATALOG, Dice, World, ensure_once, ensure_unharmed, routing};
use super::{Length, Rig};

/// An agent is killed at a random moment of this time after it was started: while it loads, while it reads,
/// while it hands on, while it idles.
const LIFE: Duration = Duration::from_millis(1200);
/// No new connection may be refused for longer.
const REFUSED_AT_MOST: Duration = Duration::from_secs(1);
/// From one edit to the next.
const EDIT_EVERY: Duration = Duration::from_millis(30);
/// From one look at the kernel's state to the next.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(super) fn killed_at_random_moments(rig: &Rig, length: Length) -> anyhow::Result<String> {
    let kills = length.rounds(50, LIFE);
    let mut world = World::serving(rig)?;
    let mut dice = Dice::new();
    let seed = dice.seed();
    let traffic = world.traffic()?;
    let before = Kernel::look(&world)?;
    let manifests = world.stack.manifests();
    let stop = AtomicBool::new(false);
    let (edits, looks) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let editor = scope.spawn(|| edit(&manifests, &stop));
        let watcher = scope.spawn(|| before.watch(&stop));
        let killed = (|| {
            for _ in 0..kills {
                world.stack.kill_agent()?;
                world.stack.spawn_agent()?;
                std::thread::sleep(dice.time_below(LIFE));
            }
            anyhow::Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        let edits = editor.join().ok().context("the editor panicked")??;
        let looks = watcher.join().ok().context("the watcher panicked")?;
        killed?;
        Ok((edits, looks?))
    })
    .with_context(|| format!("with MILLRACE_SEED={seed}"))?;
    // The last agent, started in the middle of changes, brings everything up to date.
    world.stack.wait_ready()?;
    let last = format!("edit-{}", edits - 1);
    wait::until("the last edit is served", Duration::from_secs(5), || {
        let mut connection = mesh_testkit::http::Connection::open(
            world.stack.pod(1).connect(world.catalog().to)?,
            &mesh_testkit::http::Speak::Http1,
        )?;
        let seen = connection.get("catalog", "/")?.json();
        ensure!(seen["headers"]["x-mesh"][0] == last.as_str(), "{seen}");
        Ok(())
    })?;
    let report = traffic.finish()?;
    let told = format!("{kills} kills, {edits} edits, {looks} looks, seed {seed}\n{report}");
    ensure_unharmed(&world, &report).with_context(|| told.clone())?;
    ensure_once(&world)?;
    let refused = report.loads.iter().filter(|(name, _)| name.ends_with("fresh"));
    for (name, tally) in refused {
        ensure!(
            tally.longest_gap <= REFUSED_AT_MOST,
            "{name}: nobody answered for {:?}\n{told}",
            tally.longest_gap
        );
    }
    Ok(told)
}

/// Edits manifests until told to stop: the value of a header again and again, and a Service that comes and
/// goes. How many edits were made.
fn edit(manifests: &Path, stop: &AtomicBool) -> anyhow::Result<usize> {
    let mesh = manifests.join("40-mesh.yaml");
    let original = std::fs::read_to_string(&mesh).context("the quickstart has a mesh")?;
    let extra = manifests.join("70-extra.yaml");
    let mut edits = 0;
    // The last edit is always whole: what it says is what has to be served in the end.
    while !stop.load(Ordering::Relaxed) || edits == 0 {
        let text = original.replace("value: millrace", &format!("value: edit-{edits}"));
        ensure!(text != original, "the quickstart's mesh has another value than expected");
        crate::manifest::replace(&mesh, &text)?;
        match edits % 8 {
            2 => crate::manifest::replace(&extra, EXTRA)?,
            6 => std::fs::remove_file(&extra).context("the extra Service was written")?,
            _ => {}
        }
        edits += 1;
        std::thread::sleep(EDIT_EVERY);
    }
    Ok(edits)
}

const EXTRA: &str = "\
apiVersion: v1
kind: Service
metadata: {name: extra, namespace: shop}
spec:
  clusterIPs: [10.96.0.40]
  ipFamilies: [IPv4]
  ports: [{name: http, port: 80, targetPort: 8080}]
";

/// What the kernel has of the objects that are not edited; it must have them at every moment.
#[derive(Debug)]
struct Kernel {
    pin_root: PathBuf,
    node: String,
    services: BTreeMap<ServiceKey, (ServiceFlags, u16)>,
    listeners: usize,
    routing: String,
}

impl Kernel {
    fn look(world: &World) -> anyhow::Result<Self> {
        let pin_root = world.stack.pin_root();
        let node = world.stack.topology.node.name().to_owned();
        let mut maps = PinnedMaps::open(&pin_root)?;
        let services = services(&mut maps)?;
        ensure!(services.len() > 4, "{services:?}");
        let listeners = maps.listeners()?.len();
        ensure!(listeners > 0, "the proxy has no sockets");
        let routing = routing(&node)?;
        ensure!(routing.contains("2004") && routing.contains(CATALOG), "{routing}");
        Ok(Self { pin_root, node, services, listeners, routing })
    }

    /// Looks until told to stop. How often it did; an error as soon as something is missing.
    fn watch(&self, stop: &AtomicBool) -> anyhow::Result<usize> {
        let mut looks = 0;
        let mut maps = PinnedMaps::open(&self.pin_root)?;
        let mut routing_at = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = services(&mut maps)?;
            for (key, value) in &self.services {
                ensure!(now.get(key) == Some(value), "{key:?} was {value:?}, is {:?}", now.get(key));
            }
            let listeners = maps.listeners()?.len();
            ensure!(
                listeners == self.listeners,
                "{} of the proxy's sockets, then {listeners}",
                self.listeners
            );
            if routing_at.elapsed() > Duration::from_millis(100) {
                let routing = routing(&self.node)?;
                for line in self.routing.lines() {
                    ensure!(routing.lines().any(|other| other == line), "`{line}` is missing in:\n{routing}");
                }
                routing_at = Instant::now();
            }
            looks += 1;
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(looks)
    }
}

fn services(maps: &mut PinnedMaps) -> anyhow::Result<BTreeMap<ServiceKey, (ServiceFlags, u16)>> {
    let entries = maps.services().entries()?;
    Ok(entries.into_iter().map(|(key, value)| (key, (value.flags, value.backends))).collect())
}
