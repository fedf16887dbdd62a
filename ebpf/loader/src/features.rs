//! What the kernel can do.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::MapType;
use aya::programs::{ProgramError, ProgramType, SchedClassifier, TcAttachType};
use aya::sys::{is_map_supported, is_program_supported};
use serde::{Deserialize, Serialize};

use crate::mounts::Mounts;

/// Whether a feature is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Support {
    /// It was tried and works.
    Present,
    /// It was tried and does not work.
    Absent {
        /// What the kernel said, or what was looked for.
        reason: String,
    },
    /// It could not be tried.
    Unknown {
        /// Why.
        reason: String,
    },
}

impl Support {
    fn absent(reason: impl Into<String>) -> Self {
        Self::Absent { reason: reason.into() }
    }

    fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown { reason: reason.into() }
    }

    fn from_probe<E: fmt::Display>(result: Result<bool, E>, what: &str) -> Self {
        match result {
            Ok(true) => Self::Present,
            Ok(false) => Self::absent(format!("the kernel has no {what}")),
            Err(error) => Self::unknown(format!("probing {what}: {error}")),
        }
    }

    /// Whether it is known to be missing.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("present"),
            Self::Absent { reason } => write!(f, "absent: {reason}"),
            Self::Unknown { reason } => write!(f, "unknown: {reason}"),
        }
    }
}

/// What the kernel, and this process in it, can do. Probed once; printable; loadable from a file for tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelFeatures {
    /// Release as `uname -r` prints it.
    pub release: String,
    /// May load programs and attach them (CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN).
    pub privileges: Support,
    /// Programs on devices by link (Linux 6.6).
    pub tcx: Support,
    /// Programs on devices by netlink, the older way.
    pub clsact: Support,
    /// Choosing the listener of a connection (Linux 5.9).
    pub sk_lookup: Support,
    /// Arrays of sockets.
    pub sockmap: Support,
    /// Programs at connect, sendmsg, recvmsg and getpeername of a cgroup's processes (Linux 5.8).
    pub sock_addr: Support,
    /// Ring buffers (Linux 5.8).
    pub ring_buffer: Support,
    /// Type information of the kernel. Not needed by any program yet.
    pub btf: Support,
    /// Where the BPF file system is mounted.
    pub bpffs: Vec<PathBuf>,
    /// Where cgroup v2 is mounted.
    pub cgroup2: Vec<PathBuf>,
}

impl KernelFeatures {
    /// Asks the kernel. Never fails: what cannot be asked is [`Support::Unknown`]. A few milliseconds.
    pub fn probe() -> Self {
        let mounts = Mounts::read().unwrap_or_default();
        Self {
            release: release(),
            privileges: privileges(),
            tcx: tcx(),
            clsact: Support::unknown("may be a module that is loaded on use; tried when attaching"),
            sk_lookup: program(ProgramType::SkLookup, "sk_lookup programs"),
            sockmap: map(MapType::SockMap, "socket maps"),
            sock_addr: program(ProgramType::CgroupSockAddr, "cgroup socket address programs"),
            ring_buffer: map(MapType::RingBuf, "ring buffers"),
            btf: if Path::new("/sys/kernel/btf/vmlinux").exists() {
                Support::Present
            } else {
                Support::absent("/sys/kernel/btf/vmlinux does not exist")
            },
            bpffs: mounts.bpffs,
            cgroup2: mounts.cgroup2,
        }
    }

    /// Reads a profile written as JSON.
    ///
    /// # Errors
    /// The file cannot be read, or is no profile.
    pub fn from_file(path: &Path) -> Result<Self, FeatureFileError> {
        let text =
            std::fs::read(path).map_err(|source| FeatureFileError::Read { path: path.to_owned(), source })?;
        serde_json::from_slice(&text)
            .map_err(|source| FeatureFileError::Parse { path: path.to_owned(), source })
    }

    fn list(&self) -> BTreeMap<&'static str, &Support> {
        BTreeMap::from([
            ("privileges", &self.privileges),
            ("tcx", &self.tcx),
            ("clsact", &self.clsact),
            ("sk_lookup", &self.sk_lookup),
            ("sockmap", &self.sockmap),
            ("sock_addr", &self.sock_addr),
            ("ring_buffer", &self.ring_buffer),
            ("btf", &self.btf),
        ])
    }
}

impl fmt::Display for KernelFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel       {}", self.release)?;
        for (name, support) in self.list() {
            writeln!(f, "{name:<12} {support}")?;
        }
        for (name, paths) in [("bpffs", &self.bpffs), ("cgroup2", &self.cgroup2)] {
            if paths.is_empty() {
                writeln!(f, "{name:<12} not mounted")?;
            }
            for path in paths {
                writeln!(f, "{name:<12} mounted at {}", path.display())?;
            }
        }
        Ok(())
    }
}

/// Why a file is no profile of a kernel.
#[derive(Debug, thiserror::Error)]
pub enum FeatureFileError {
    /// It cannot be read.
    #[error("kernel profile {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It has other content.
    #[error("kernel profile {path} is not one")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        #[source]
        source: serde_json::Error,
    },
}

fn release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_else(|error| format!("unknown: {error}"))
}

fn privileges() -> Support {
    use caps::{CapSet, Capability, has_cap};
    let has = |capability| has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    if has(Capability::CAP_SYS_ADMIN) || (has(Capability::CAP_BPF) && has(Capability::CAP_NET_ADMIN)) {
        Support::Present
    } else {
        Support::absent("neither CAP_SYS_ADMIN nor CAP_BPF with CAP_NET_ADMIN")
    }
}

/// Asking which programs a device has fails with EINVAL where tcx is unknown.
fn tcx() -> Support {
    const EINVAL: i32 = 22;
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok(_) => Support::Present,
        Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(EINVAL) => {
            Support::absent("the kernel has no tcx (it came with Linux 6.6)")
        }
        Err(error) => Support::unknown(format!("probing tcx on lo: {error}")),
    }
}

fn program(kind: ProgramType, what: &str) -> Support {
    Support::from_probe(is_program_supported(kind), what)
}

fn map(kind: MapType, what: &str) -> Support {
    Support::from_probe(is_map_supported(kind), what)
}

#[cfg(test)]
mod tests;
