//! Which libraries a program needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::Entry;

/// The libraries of the C library's loader that programs need, and the loader itself, each at the path that it has
/// here: that is where this machine's loader looks. None for static programs.
///
/// # Errors
/// `ldd` is missing, or a library is.
pub fn libraries(programs: &[PathBuf]) -> anyhow::Result<Vec<Entry>> {
    let mut found = BTreeSet::new();
    for program in programs {
        let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let told = String::from_utf8_lossy(&output.stderr);
        if told.contains("not a dynamic executable") || text.contains("statically linked") {
            continue;
        }
        if !output.status.success() {
            bail!("ldd {}: {}", program.display(), told.trim());
        }
        for path in parse(&text).with_context(|| format!("ldd {}", program.display()))? {
            found.insert(Entry::program(path.to_string_lossy(), path.clone()));
        }
    }
    Ok(found.into_iter().collect())
}

/// Paths in what ldd prints: `NAME => PATH (ADDRESS)`, or for the loader `PATH (ADDRESS)`. The kernel's own has none.
fn parse(text: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in text.lines().map(str::trim) {
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        if place == "not found" {
            bail!("{name} is not found");
        }
        let path = place.split(" (").next().unwrap_or_default();
        if Path::new(path).is_absolute() {
            paths.push(PathBuf::from(path));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_loader_is_a_library_and_what_the_kernel_gives_is_none() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let paths: Vec<String> =
            parse(text).expect("all are there").iter().map(|path| path.display().to_string()).collect();
        assert_eq!(paths, ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn a_library_that_is_missing_is_named() {
        let error = parse("\tlibx.so.1 => not found\n").expect_err("one is missing").to_string();
        assert!(error.contains("libx.so.1"), "{error}");
    }
}
