//! A cgroup of one's own, so that socket hooks touch no other process of the machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A cgroup that this process and its children are in while it lives.
#[derive(Debug)]
pub(crate) struct Cgroup {
    came_from: PathBuf,
    path: PathBuf,
    keep: bool,
}

impl Cgroup {
    /// Makes it below the root of the hierarchy and moves this process there.
    pub(crate) fn enter(name: &str) -> anyhow::Result<Self> {
        let root = hierarchy()?;
        let path = root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        let own =
            fs::read_to_string("/proc/self/cgroup").context("cannot read the cgroup of this process")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
        join(&path, std::process::id())?;
        Ok(Self { came_from: root.join(own), path, keep: false })
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it in place when dropped, with the children in it; this process goes back all the same.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = join(&self.came_from, std::process::id());
        if !self.keep {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// Empties the cgroup `name` into the root of the hierarchy and removes it.
pub(crate) fn remove(name: &str) -> anyhow::Result<()> {
    let root = hierarchy()?;
    let path = root.join(name);
    let Ok(processes) = fs::read_to_string(path.join("cgroup.procs")) else { return Ok(()) };
    for process in processes.lines().filter_map(|line| line.parse().ok()) {
        // One that has ended meanwhile needs no moving.
        let _ = join(&root, process);
    }
    fs::remove_dir(&path).with_context(|| format!("cannot remove the cgroup {}", path.display()))
}

fn join(path: &Path, process: u32) -> anyhow::Result<()> {
    fs::write(path.join("cgroup.procs"), process.to_string())
        .with_context(|| format!("cannot join the cgroup {}", path.display()))
}

/// Where cgroup v2 is mounted.
fn hierarchy() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    let found = fields.find_map(|mut line| {
        let (_, path, kind) = (line.next()?, line.next()?, line.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    });
    found.context("no cgroup v2 hierarchy is mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified")
}
