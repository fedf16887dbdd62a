//! Checks that run nothing of the product.

use std::process::Command;

use crate::process;
use crate::suite::Tally;
use crate::toolchain::{TARGET, Toolchain};
use crate::{graph, text, tools};

/// Runs every check; each counts as one test.
pub(crate) fn run() -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    tally += cargo_check("fmt", &["fmt", "--all", "--check"])?;
    let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    tally += cargo_check("clippy", &clippy)?;
    tally += cargo_check("fmt", &["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])?;
    tally += kernel_programs()?;
    tally += Tally::one(graph::is_as_committed()?);
    let complaints = text::complaints()?;
    complaints.iter().for_each(|complaint| println!("{complaint}"));
    tally += Tally::one(complaints.is_empty());
    tally += dependencies()?;
    Ok(tally)
}

/// A check by a component of the toolchain, which a distribution's Rust may lack.
fn cargo_check(component: &str, arguments: &[&str]) -> anyhow::Result<Tally> {
    if process::output(process::cargo().args([component, "--version"])).is_none() {
        return Ok(Tally::skip(1, component, "this Rust comes without it"));
    }
    Ok(Tally::one(process::status(process::cargo().args(arguments))?.success()))
}

/// Formatting and warnings of the kernel programs, which are no members of the workspace.
fn kernel_programs() -> anyhow::Result<Tally> {
    let programs = process::root().join("ebpf/programs");
    let manifest = programs.join("Cargo.toml").display().to_string();
    let mut tally = cargo_check("fmt", &["fmt", "--manifest-path", &manifest, "--check"])?;
    let Some(toolchain) = Toolchain::find() else {
        tally +=
            Tally::skip(1, "check of the kernel programs", "no compiler for them; run `cargo xtask setup`");
        return Ok(tally);
    };
    let mut check = toolchain.cargo(&programs);
    check.args(["check", "--release", "--locked", "--target", TARGET, "-Z", "build-std=core"]);
    check.env("RUSTFLAGS", "-D warnings");
    // Its own folder: other flags would rebuild `core` each time the object is built.
    check.env("CARGO_TARGET_DIR", programs.join("target/check"));
    tally += Tally::one(process::status(&mut check)?.success());
    Ok(tally)
}

/// Licences, bans and sources; advisories where their database is at hand.
fn dependencies() -> anyhow::Result<Tally> {
    let Some(program) = tools::DENY.find() else {
        return Ok(Tally::skip(
            2,
            "licences, bans, sources, advisories",
            "cargo-deny is not installed; run `cargo xtask setup`",
        ));
    };
    let deny = |checks: &[&str]| {
        let mut deny = Command::new(&program);
        deny.current_dir(process::root()).args(["--log-level", "error", "check"]).args(checks);
        deny
    };
    let mut tally = Tally::one(process::status(&mut deny(&["licenses", "bans", "sources"]))?.success());
    let database = std::env::var_os("CARGO_HOME")
        .map(std::path::PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| std::path::PathBuf::from(home).join(".cargo")))
        .map(|home| home.join("advisory-dbs"));
    tally += match database {
        Some(folder) if folder.is_dir() => {
            let mut check = deny(&["--offline"]);
            Tally::one(process::status(check.arg("advisories"))?.success())
        }
        _ => Tally::skip(1, "advisories", "there is no copy of the advisory database on this machine"),
    };
    Ok(tally)
}
