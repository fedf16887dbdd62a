//! Where the BPF file system and cgroup v2 are mounted.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

/// Mount points of the two file systems that the datapath needs, from the text of /proc/self/mounts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Mounts {
    pub(crate) bpffs: Vec<PathBuf>,
    pub(crate) cgroup2: Vec<PathBuf>,
}

impl Mounts {
    pub(crate) fn read() -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read_to_string("/proc/thread-self/mounts")?))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut mounts = Self::default();
        for line in text.lines() {
            let mut fields = line.split(' ').skip(1);
            let (Some(path), Some(kind)) = (fields.next(), fields.next()) else {
                continue;
            };
            let list = match kind {
                "bpf" => &mut mounts.bpffs,
                "cgroup2" => &mut mounts.cgroup2,
                _ => continue,
            };
            list.push(PathBuf::from(unescape(path)));
        }
        mounts
    }
}

/// The kernel writes blanks and backslashes in paths as three octal digits.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

/// Mounts the BPF file system at a folder unless it is mounted there already; true if it did.
///
/// # Errors
/// What creating the folder or mount(2) say.
pub fn ensure_bpffs(path: &Path) -> io::Result<bool> {
    if Mounts::read()?.bpffs.iter().any(|mounted| mounted == path) {
        return Ok(false);
    }
    std::fs::create_dir_all(path)?;
    mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), Some("mode=0700"))?;
    Ok(true)
}
