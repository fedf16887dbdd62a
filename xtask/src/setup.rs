//! Installing what is missing. Does nothing where everything is there.

use std::path::Path;
use std::process::Command;

use anyhow::bail;
use clap::Args;

use crate::process;
use crate::toolchain::Toolchain;
use crate::tools;

/// Options of `setup`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only say what is missing; the exit code tells whether anything is.
    #[arg(long)]
    check: bool,
    /// Leave out what only the tests need.
    #[arg(long)]
    demo: bool,
}

/// Version of the linker for kernel programs.
const BPF_LINKER: &str = "0.13.0";

/// Where the system keeps the LLVM of its own compiler.
const SYSTEM_LLVM: &str = "/usr/lib/llvm-22";

/// A thing that has to be there.
struct Need {
    what: &'static str,
    is_there: fn() -> bool,
    install: fn() -> anyhow::Result<()>,
    for_tests_only: bool,
}

const NEEDS: &[Need] = &[
    Need {
        what: "packages: iproute2, a C compiler, git, pip, curl",
        is_there: || ["ip", "nsenter", "cc", "git", "pip3", "curl"].iter().all(|program| is_program(program)),
        install: || {
            apt(&[
                "iproute2",
                "util-linux",
                "build-essential",
                "git",
                "python3-pip",
                "curl",
                "ca-certificates",
            ])
        },
        for_tests_only: false,
    },
    Need {
        what: "a compiler for kernel programs",
        is_there: || Toolchain::find().is_some(),
        install: install_compiler,
        for_tests_only: false,
    },
    Need {
        what: "bpf-linker",
        is_there: || is_program("bpf-linker"),
        install: install_linker,
        for_tests_only: false,
    },
    Need {
        what: "cargo-nextest",
        is_there: || tools::NEXTEST.find().is_some(),
        install: || tools::NEXTEST.install(),
        for_tests_only: true,
    },
    Need {
        what: "cargo-deny",
        is_there: || tools::DENY.find().is_some(),
        install: || tools::DENY.install(),
        for_tests_only: true,
    },
    Need {
        what: "Envoy, to compare with",
        is_there: || tools::envoy().is_some(),
        install: || tools::ENVOY.install(),
        for_tests_only: true,
    },
];

/// Installs, or says, what is missing.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let wanted = NEEDS.iter().filter(|need| !(options.demo && need.for_tests_only));
    let missing: Vec<&Need> = wanted.filter(|need| !(need.is_there)()).collect();
    if options.check {
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = missing.iter().map(|need| need.what).collect();
        bail!("missing: {}; run `cargo xtask setup`", names.join("; "));
    }
    for (index, need) in missing.iter().enumerate() {
        println!("setup {}/{}: {}", index + 1, missing.len(), need.what);
        match (need.install)() {
            // What only the gate uses is missed there, loudly; the rest is needed.
            Err(error) if need.for_tests_only => println!("setup: {} left out: {error:#}", need.what),
            outcome => outcome?,
        }
    }
    if let Some(toolchain) = Toolchain::find() {
        println!("setup: kernel programs are built by {}", toolchain.describe());
    }
    Ok(())
}

/// Installs what the demo needs.
pub(crate) fn for_demo() -> anyhow::Result<()> {
    run(&Options { check: false, demo: true })
}

/// Installs the packages that nodes of a cluster run.
pub(crate) fn for_cluster() -> anyhow::Result<()> {
    if ["containerd", "runc", "ctr", "nsenter", "unshare"].iter().all(|program| is_program(program)) {
        return Ok(());
    }
    println!("setup: containerd and runc, for nodes of a cluster");
    apt(&["containerd", "runc", "util-linux"])
}

/// rustup's nightly with sources where rustup can get it, Debian's compiler otherwise.
fn install_compiler() -> anyhow::Result<()> {
    if is_program("rustup") {
        let mut rustup = process::command("rustup");
        rustup.args(["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"]);
        if process::status(&mut rustup)?.success() && Toolchain::find().is_some() {
            return Ok(());
        }
        println!("setup: rustup cannot get a nightly with rust-src; taking the system's compiler");
    }
    apt(&["rustc-web", "cargo-web", "rust-web-src"])
}

/// The linker has to be built against the LLVM of the compiler. The system's compiler may have been there
/// without it: it is asked for here and not beside the compiler.
fn install_linker() -> anyhow::Result<()> {
    let mut install = process::cargo();
    install.args(["install", "bpf-linker", "--locked", "--version", BPF_LINKER]);
    if matches!(Toolchain::find(), Some(Toolchain::System(_))) {
        if !Path::new(SYSTEM_LLVM).join("lib").is_dir() {
            apt(&["llvm-22-dev"])?;
        }
        install.args(["--no-default-features", "--features", "llvm-22"]);
        for variable in ["LLVM_PREFIX", "LLVM_SYS_221_PREFIX"] {
            install.env(variable, SYSTEM_LLVM);
        }
    }
    process::run(&mut install)
}

fn apt(packages: &[&str]) -> anyhow::Result<()> {
    if !process::is_root() || !is_program("apt-get") {
        bail!("install these packages (as root, on Debian: apt-get install): {}", packages.join(" "));
    }
    process::run(process::command("apt-get").args(["update", "-qq"]))?;
    let mut install = process::command("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    process::run(install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages))
}

/// Whether a program is on the path.
fn is_program(name: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
    found.is_ok_and(|output| output.status.success())
}
