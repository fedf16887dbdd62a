//! Writing manifests.

use std::fs;
use std::path::Path;

use anyhow::Context;

/// Writes a file as editors do: a new one, moved over the old one. Readers see either.
pub(crate) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let name = path.file_name().context("a manifest has a name")?;
    let new = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}
