//! What of the found inputs is kept in the repository.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::limits::Limits;
use super::outcome;
use super::run::{found_dir, kept_dir, libfuzzer};
use crate::process;

/// Inputs that are kept of one target, at most: corpora are read at each run and live in the repository.
const KEPT_BYTES: u64 = 80 * 1024;

/// Replaces the kept corpus by the smallest inputs, old and new, that cover as much, as far as there is room.
pub(super) fn keep(limits: &Limits, folder: &Path) -> anyhow::Result<()> {
    let (kept, fresh) = (kept_dir(limits), process::target_dir().join("fuzz/kept").join(limits.name));
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    fs::create_dir_all(&fresh)?;
    let mut merge = libfuzzer(limits, folder);
    merge.arg("-set_cover_merge=1").args([&fresh, &kept, &found_dir(limits)]);
    let output = merge.output().with_context(|| format!("cannot start {}", process::shown(&merge)))?;
    if !output.status.success() {
        bail!("{}: merging failed: {}", limits.name, String::from_utf8_lossy(&output.stderr));
    }
    // Inputs with a name were put there by hand and stay; the others are named by their hash.
    let by_hand = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() != 40);
    for path in outcome::files(&kept)?.iter().filter(|path| !by_hand(path)) {
        fs::remove_file(path)?;
    }
    let mut room = KEPT_BYTES;
    for path in outcome::files(&kept)? {
        room = room.saturating_sub(fs::metadata(&path)?.len());
    }
    let mut inputs: Vec<(u64, PathBuf)> = Vec::new();
    for path in outcome::files(&fresh)? {
        inputs.push((fs::metadata(&path)?.len(), path));
    }
    inputs.sort();
    let mut count = 0;
    for (size, path) in inputs {
        let Some(left) = room.checked_sub(size) else { break };
        let name = path.file_name().context("a file has a name")?;
        fs::copy(&path, kept.join(name))?;
        (room, count) = (left, count + 1);
    }
    println!("{}: {count} inputs kept beside those with a name", limits.name);
    Ok(())
}
