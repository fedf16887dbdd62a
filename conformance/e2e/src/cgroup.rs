//! A cgroup of one's own, so that socket hooks touch no other process of the machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A cgroup that this process and its children are in while it lives.
#[derive(Debug)]
pub(crate) struct Cgroup {
    parent: PathBuf,
    path: PathBuf,
}

impl Cgroup {
    /// Makes it below the root of the hierarchy and moves this process there.
    pub(crate) fn enter(name: &str) -> anyhow::Result<Self> {
        let parent = hierarchy()?;
        let path = parent.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        let cgroup = Self { parent, path };
        join(&cgroup.path)?;
        Ok(cgroup)
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = join(&self.parent);
        let _ = fs::remove_dir(&self.path);
    }
}

fn join(path: &Path) -> anyhow::Result<()> {
    fs::write(path.join("cgroup.procs"), std::process::id().to_string())
        .with_context(|| format!("cannot join the cgroup {}", path.display()))
}

/// Where cgroup v2 is mounted.
pub(crate) fn hierarchy() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    let found = fields.find_map(|mut line| {
        let (_, path, kind) = (line.next()?, line.next()?, line.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    });
    found.context("no cgroup v2 hierarchy is mounted")
}
