//! Root file systems out of Debian's packages, for images whose pods are looked into with a shell and its tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// Puts packages, with all they depend on, into a folder, unless they are there. Nothing of them is run.
///
/// # Errors
/// apt cannot get them, or dpkg cannot unpack one.
pub(crate) fn make(folder: &Path, packages: &[&str]) -> anyhow::Result<()> {
    let done = folder.with_extension("packages");
    let wanted = packages.join(" ");
    if fs::read_to_string(&done).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    let _ = fs::remove_dir_all(folder);
    let archives = folder.with_extension("archives");
    fs::create_dir_all(archives.join("partial"))?;
    fs::create_dir_all(folder)?;
    // As on a machine where nothing is installed: so everything that is needed comes.
    let nothing = archives.join("status");
    fs::write(&nothing, "")?;
    let mut apt = Command::new("apt-get");
    apt.args(["--yes", "--quiet=2", "--download-only", "--no-install-recommends"]);
    for (option, value) in [("Dir::State::status", &nothing), ("Dir::Cache::archives", &archives)] {
        apt.arg("-o").arg(format!("{option}={}", value.display()));
    }
    run(apt.args(["-o", "APT::Sandbox::User=root", "install"]).args(packages))?;
    let mut count = 0;
    for entry in fs::read_dir(&archives)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(folder))?;
            count += 1;
        }
    }
    ensure!(count > 0, "apt-get brought no package of {wanted}");
    fs::remove_dir_all(&archives)?;
    fs::write(&done, &wanted).with_context(|| format!("cannot write {}", done.display()))
}

/// Gives busybox' name to a tool where no package has it. What dpkg's alternatives would choose is chosen here.
pub(crate) fn link_busybox(folder: &Path, tools: &[&str]) -> anyhow::Result<()> {
    let busybox = PathBuf::from("/bin/busybox");
    // busybox' own shell takes its own tools before all others.
    for (name, target) in [("nc", "nc.openbsd"), ("sh", "dash")] {
        let link = folder.join("bin").join(name);
        if folder.join("bin").join(target).exists() && fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(target, &link).with_context(|| format!("cannot link {name}"))?;
        }
    }
    for tool in tools {
        let has =
            ["bin", "usr/bin", "sbin", "usr/sbin"].iter().any(|place| folder.join(place).join(tool).exists());
        let link = folder.join("bin").join(tool);
        if !has && fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(&busybox, &link).with_context(|| format!("cannot link {tool}"))?;
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
