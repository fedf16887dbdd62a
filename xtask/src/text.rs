//! What the text of the tree must not hold.

use std::fs;

use anyhow::Context;

use crate::process;

/// Longest source file that is not worth a look.
const LONGEST: usize = 600;

/// Tracked files with the path of this checkout's folder in them, or past the longest length.
pub(crate) fn complaints() -> anyhow::Result<Vec<String>> {
    let root = process::root();
    let files = process::output(process::command("git").args(["ls-files"])).context("git lists no files")?;
    let machine = root.parent().map(|parent| format!("{}/", parent.display())).unwrap_or_default();
    let mut complaints = Vec::new();
    for file in files.lines() {
        let Ok(text) = fs::read_to_string(root.join(file)) else { continue };
        let is_ours = machine.len() > 2 && text.contains(&machine);
        if is_ours {
            complaints.push(format!("{file}: has a path of this machine, {machine}"));
        }
        let lines = text.lines().count();
        if file.ends_with(".rs") && lines > LONGEST {
            complaints.push(format!("{file}: {lines} lines, more than {LONGEST}: cut it by ideas"));
        }
    }
    Ok(complaints)
}
