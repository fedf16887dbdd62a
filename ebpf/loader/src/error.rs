//! What can go wrong with loading and attaching.

use std::io;
use std::path::PathBuf;

use mesh_ebpf_maps::MapError;

/// Why the datapath could not be loaded, attached or removed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object file with the programs is missing or no object file.
    #[error("programs in {path} cannot be loaded; `cargo xtask bpf` builds them")]
    Object {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<aya::EbpfError>,
    },
    /// The object file has no such program, or one of another type: it was built from another version.
    #[error("{path} has no program {program}; build it from this version with `cargo xtask bpf`")]
    NoProgram {
        /// The file.
        path: PathBuf,
        /// The program.
        program: &'static str,
    },
    /// The kernel refused a program.
    #[error("the kernel refuses program {program}")]
    Verifier {
        /// The program.
        program: &'static str,
        /// The kernel's word, with the end of the verifier's log.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// A program could not be attached or detached.
    #[error("program {program} cannot be {action} {target}")]
    Attach {
        /// The program.
        program: &'static str,
        /// `attached to` or `detached from`.
        action: &'static str,
        /// Device, cgroup or network namespace.
        target: String,
        /// The kernel's word.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no such device in this network namespace.
    #[error("device {device} does not exist in this network namespace")]
    NoDevice {
        /// The device.
        device: String,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// A pin, or the folder for it, could not be made, read or removed.
    #[error("pin {path} cannot be {action}")]
    Pin {
        /// The pin.
        path: PathBuf,
        /// `created`, `opened`, `listed` or `removed`.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something the datapath is attached to could not be opened.
    #[error("{path} cannot be opened")]
    Open {
        /// cgroup or network namespace.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The maps could not be opened, or are those of another version.
    #[error("the maps cannot be used")]
    Maps(#[from] MapError),
}
