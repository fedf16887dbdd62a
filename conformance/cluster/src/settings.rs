//! Settings of the whole machine that kubelet changes when it starts: kept, and put back in the end.

use std::fs;
use std::path::{Path, PathBuf};

/// Kubelet's list (`setupKernelTunables`).
const CHANGED: &[&str] = &[
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// What they are.
pub(crate) fn read() -> Vec<(PathBuf, String)> {
    let paths = CHANGED.iter().map(|name| Path::new("/proc/sys").join(name));
    paths
        .filter_map(|path| fs::read_to_string(&path).ok().map(|value| (path, value.trim().to_owned())))
        .collect()
}

/// Makes them what they were. One that cannot be written could not be changed by kubelet either.
pub(crate) fn restore(settings: &[(PathBuf, String)]) {
    for (path, value) in settings {
        let _ = fs::write(path, value);
    }
}
