//! Which compiler builds the kernel programs.
//!
//! They need `core` built from source for a target without a standard library. The usual way is rustup's
//! nightly with `rust-src`; Debian's compiler with its sources does as well, told to take unstable flags.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;

/// Target of the kernel programs.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// A compiler that can build kernel programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// rustup's nightly with sources.
    Nightly,
    /// A system compiler with sources, by the path of rustc.
    System(PathBuf),
}

impl Toolchain {
    /// The first that is there: nightly, then the system's.
    pub(crate) fn find() -> Option<Self> {
        let nightly =
            process::output(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]));
        if nightly.is_some_and(|sysroot| has_sources(sysroot.trim())) {
            return Some(Self::Nightly);
        }
        let rustc = PathBuf::from("/usr/bin/rustc");
        let system = process::output(Command::new(&rustc).args(["--print", "sysroot"]))?;
        has_sources(system.trim()).then_some(Self::System(rustc))
    }

    /// Cargo of this toolchain, in `folder`, ready for `build --target`.
    pub(crate) fn cargo(&self, folder: &Path) -> Command {
        let mut cargo = match self {
            Self::Nightly => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", "nightly", "cargo"]);
                rustup
            }
            Self::System(rustc) => {
                let mut cargo = Command::new(rustc.with_file_name("cargo"));
                cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
        };
        for variable in ["RUSTUP_TOOLCHAIN", "CARGO", "CARGO_TARGET_DIR", "RUSTFLAGS"] {
            cargo.env_remove(variable);
        }
        if matches!(self, Self::Nightly) {
            cargo.env_remove("RUSTC");
        }
        cargo.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", "bpf-linker").current_dir(folder);
        cargo
    }

    /// Its name, for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Nightly => "rustup's nightly with rust-src".to_owned(),
            Self::System(rustc) => format!("the system's {} with its sources", rustc.display()),
        }
    }
}

fn has_sources(sysroot: &str) -> bool {
    Path::new(sysroot).join("lib/rustlib/src/rust/library/core").is_dir()
}
