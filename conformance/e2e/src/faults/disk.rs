//! No space left where the sockets and logs are.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use mesh_testkit::wait;
use rustix::process::Signal;

use super::world::{World, ensure_once, signal};
use super::{Length, Rig};

const SERVED_WITHIN: Duration = Duration::from_secs(2);
/// About what one round takes.
const ROUND: Duration = Duration::from_secs(6);

pub(super) fn full(rig: &Rig, length: Length) -> anyhow::Result<String> {
    let rounds = length.rounds(2, ROUND);
    let world = World::create(rig, &[])?;
    fs::create_dir_all(world.stack.run_dir())?;
    let disk = SmallDisk::mount(&world.stack.run_dir())?;
    // Goes before the disk does: the proxy is stopped through a socket that lies there.
    let mut world = world;
    world.stack.start_agent()?;
    world.stack.wait_ready()?;
    let traffic = world.traffic()?;
    let (starter, mut cut) = (world.starter()?, 0);
    for round in 0..rounds {
        disk.fill()?;
        let before = traffic.report();
        traffic.answered_again(SERVED_WITHIN)?;
        // An agent that cannot write a line to its log, and one that starts in a full folder.
        world.stack.write_manifest("40-mesh.yaml", &edited(&world, round)?)?;
        traffic.answered_again(SERVED_WITHIN)?;
        world.stack.kill_agent()?;
        world.stack.start_agent()?;
        world.stack.wait_ready()?;
        let worker = world.worker()?;
        let after = traffic.report();
        let harm = |report: &mesh_testkit::traffic::Report| {
            report.sum(|tally| tally.lost + tally.refused + tally.failed + tally.wrong + tally.cut)
        };
        ensure!(harm(&before) == harm(&after), "{after}\n{}\n{}", after.troubles(), world.logs());
        signal(worker, Signal::KILL)?;
        traffic.answered_again(SERVED_WITHIN)?;
        cut += 1;
        ensure!(world.starter()? == starter, "the starter died\n{}", world.logs());
        disk.free()?;
        wait::until("the access log is written again", Duration::from_secs(5), || {
            let log = world.stack.run_dir().join("access.log");
            let size = || fs::metadata(&log).map(|metadata| metadata.len());
            let before = size()?;
            traffic.answered_again(SERVED_WITHIN)?;
            std::thread::sleep(Duration::from_millis(50));
            ensure!(size()? != before, "it stays at {before} bytes");
            Ok(())
        })?;
    }
    let report = traffic.finish()?;
    let told = format!("{rounds} times full, the worker killed {cut} times in it\n{report}");
    ensure!(report.sum(|tally| tally.wrong + tally.failed) == 0, "{told}\n{}", report.troubles());
    ensure!(report.longest_gap() <= SERVED_WITHIN, "{told}");
    ensure_once(&world)?;
    Ok(told)
}

fn edited(world: &World, round: usize) -> anyhow::Result<String> {
    let original = fs::read_to_string(world.stack.original_manifests().join("40-mesh.yaml"))?;
    Ok(original.replace("value: millrace", &format!("value: round-{round}")))
}

/// A file system of a few megabytes, mounted while it lives.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    fn mount(at: &Path) -> anyhow::Result<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs"]).arg(at);
        let status = mount.stdin(Stdio::null()).status().context("cannot start mount")?;
        ensure!(status.success(), "cannot mount a tmpfs at {}", at.display());
        Ok(Self { at: at.to_owned() })
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Takes all the space there is.
    fn fill(&self) -> anyhow::Result<()> {
        let mut ballast = File::options().create(true).append(true).open(self.ballast())?;
        for size in [64 * 1024, 4096, 1] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
        Ok(())
    }

    fn free(&self) -> anyhow::Result<()> {
        fs::remove_file(self.ballast()).context("the ballast is a file")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is on its way out may still have a file open.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}
