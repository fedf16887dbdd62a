//! Building the kernel programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};
use clap::Args;

use crate::process;
use crate::toolchain::{TARGET, Toolchain};

/// Options of `bpf`.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Build even when nothing changed.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Where the object is put.
pub(crate) fn object() -> PathBuf {
    process::target_dir().join("bpf/millrace.o")
}

/// Builds the object and returns its path. Does nothing when it is newer than its sources.
pub(crate) fn run(options: &Options) -> anyhow::Result<PathBuf> {
    let object = object();
    let root = process::root();
    let sources = [root.join("ebpf/programs"), root.join("ebpf/abi"), root.join("ebpf/logic")];
    if !options.force && is_newer(&object, &sources)? {
        println!("kernel programs: {} is up to date", object.display());
        return Ok(object);
    }
    let Some(toolchain) = Toolchain::find() else {
        bail!("no compiler for kernel programs: run `cargo xtask setup`");
    };
    println!("kernel programs: built by {}", toolchain.describe());
    let mut cargo = toolchain.cargo(&root.join("ebpf/programs"));
    cargo.args(["build", "--release", "--locked", "--target", TARGET, "-Z", "build-std=core"]);
    process::run(&mut cargo)?;
    let built = root.join("ebpf/programs/target").join(TARGET).join("release/millrace-programs");
    let folder = object.parent().context("the object has a folder")?;
    fs::create_dir_all(folder)?;
    fs::copy(&built, &object)
        .with_context(|| format!("cannot copy {} to {}", built.display(), object.display()))?;
    Ok(object)
}

/// Whether `object` is newer than every source file below `folders`.
fn is_newer(object: &Path, folders: &[PathBuf]) -> anyhow::Result<bool> {
    let Ok(built) = fs::metadata(object).and_then(|metadata| metadata.modified()) else { return Ok(false) };
    let mut newest = SystemTime::UNIX_EPOCH;
    let mut open: Vec<PathBuf> = folders.to_vec();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry?;
            let is_folder = entry.file_type()?.is_dir();
            if is_folder && entry.file_name() != "target" {
                open.push(entry.path());
            } else if !is_folder {
                newest = newest.max(entry.metadata()?.modified()?);
            }
        }
    }
    Ok(built >= newest)
}
