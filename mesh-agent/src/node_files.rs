//! The CNI plugin and its configuration on the node: put there, and taken away again.
//!
//! The runtime looks into these folders at any time, so that each file is there whole or not at all.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use serde_json::json;

use crate::args::{CniFolders, InstallCniOptions};

/// The plugin's name, which is its type in a configuration.
const PLUGIN: &str = "millrace-cni";
/// Our configuration. The runtime takes the first by name.
const CONFIG: &str = "05-millrace.conflist";
/// What the name of a configuration ends with that we moved out of the way.
const BACKUP: &str = ".millrace_bak";
/// What the runtime takes for a configuration, by the ends of names.
const CONFIGS: [&str; 3] = [".conf", ".conflist", ".json"];

/// `mesh-agent install-cni`: the plugin first, then the configuration that names it, then the others out of the way.
pub(crate) fn install(options: &InstallCniOptions) -> anyhow::Result<()> {
    let CniFolders { cni_bin_path: Some(programs), cni_conf_path: Some(configs) } = &options.folders else {
        anyhow::bail!("nowhere to install to: give --cni-bin-path and --cni-conf-path");
    };
    let program = fs::read(&options.cni_plugin)
        .with_context(|| format!("cannot read {}: set --cni-plugin", options.cni_plugin.display()))?;
    put(programs, PLUGIN, &program, 0o755)?;
    let config = json!({
        "cniVersion": "1.0.0",
        "name": "millrace",
        "plugins": [{
            "type": PLUGIN,
            "agentSocket": options.agent_socket,
            "capabilities": {"portMappings": true},
        }],
    });
    put(configs, CONFIG, &serde_json::to_vec_pretty(&config)?, 0o644)?;
    let moved = match options.cni_exclusive {
        true => move_others(configs)?,
        false => 0,
    };
    tracing::info!(programs = %programs.display(), configs = %configs.display(), moved, "CNI plugin installed");
    Ok(())
}

/// Takes the configuration and the plugin away, and puts back what was moved out of the way. What is missing is as good.
pub(crate) fn uninstall(folders: &CniFolders) -> anyhow::Result<()> {
    if let Some(configs) = &folders.cni_conf_path {
        for name in names(configs)? {
            let Some(before) = name.strip_suffix(BACKUP) else { continue };
            // One that came meanwhile is the newer.
            if !configs.join(before).exists() {
                fs::rename(configs.join(&name), configs.join(before))
                    .with_context(|| format!("cannot put {before} back in {}", configs.display()))?;
                tracing::info!(file = before, "CNI configuration put back");
            }
        }
        remove(&configs.join(CONFIG))?;
    }
    if let Some(programs) = &folders.cni_bin_path {
        remove(&programs.join(PLUGIN))?;
    }
    Ok(())
}

fn move_others(configs: &Path) -> anyhow::Result<usize> {
    let mut moved = 0;
    for name in names(configs)? {
        if name != CONFIG && CONFIGS.iter().any(|end| name.ends_with(end)) {
            let backup = configs.join(format!("{name}{BACKUP}"));
            fs::rename(configs.join(&name), &backup)
                .with_context(|| format!("cannot move {name} in {} out of the way", configs.display()))?;
            tracing::info!(file = name, "another CNI's configuration is out of the way");
            moved += 1;
        }
    }
    Ok(moved)
}

/// Names of a folder's files, in order; none where there is no folder.
fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let list = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.with_context(|| format!("cannot list {}", folder.display())),
    }
}

/// Puts a file in the place of one, at once.
fn put(folder: &Path, name: &str, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        // The runtime passes over names that begin with a dot and end like nothing it knows.
        let fresh = folder.join(format!(".{name}.new"));
        let _ = fs::remove_file(&fresh);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, folder.join(name))
    };
    write().with_context(|| format!("cannot write {name} in {}", folder.display()))
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use clap::Parser;

    use super::{BACKUP, CONFIG, PLUGIN, install, uninstall};
    use crate::args::{Arguments, Command, InstallCniOptions};

    fn options(folder: &std::path::Path, exclusive: &str) -> InstallCniOptions {
        let path = |name: &str| folder.join(name).display().to_string();
        let plugin = path("plugin");
        fs::write(&plugin, "a program").expect("room");
        let arguments = Arguments::parse_from([
            "mesh-agent",
            "install-cni",
            "--cni-plugin",
            &plugin,
            "--cni-bin-path",
            &path("bin"),
            "--cni-conf-path",
            &path("net.d"),
            "--cni-exclusive",
            exclusive,
        ]);
        match arguments.command {
            Some(Command::InstallCni(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_exclusive_plugin_moves_others_away_and_uninstalling_puts_them_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let net = folder.path().join("net.d");
        fs::create_dir(&net).expect("room");
        fs::write(net.join("10-other.conflist"), "other").expect("room");
        fs::write(net.join("README"), "no configuration").expect("room");
        let options = options(folder.path(), "true");
        // The second time is an upgrade.
        for _ in 0..2 {
            install(&options).expect("installed");
            assert!(!net.join("10-other.conflist").exists());
            assert!(net.join(format!("10-other.conflist{BACKUP}")).exists() && net.join("README").exists());
        }
        let mode = fs::metadata(folder.path().join("bin").join(PLUGIN)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        let config: serde_json::Value =
            serde_json::from_slice(&fs::read(net.join(CONFIG)).expect("there")).expect("JSON");
        assert_eq!(config["plugins"][0]["type"], PLUGIN);
        assert_eq!(config["plugins"][0]["capabilities"]["portMappings"], true);

        uninstall(&options.folders).expect("uninstalled");
        assert_eq!(fs::read_to_string(net.join("10-other.conflist")).expect("back"), "other");
        let mut left: Vec<_> =
            fs::read_dir(&net).expect("there").map(|entry| entry.expect("one").file_name()).collect();
        left.sort();
        assert_eq!(left, ["10-other.conflist", "README"]);
        assert!(!folder.path().join("bin").join(PLUGIN).exists());
        uninstall(&options.folders).expect("nothing to do is as good");
    }

    #[test]
    fn a_plugin_that_is_not_exclusive_leaves_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let net = folder.path().join("net.d");
        fs::create_dir(&net).expect("room");
        fs::write(net.join("10-other.conflist"), "other").expect("room");
        install(&options(folder.path(), "false")).expect("installed");
        assert!(net.join("10-other.conflist").exists() && net.join(CONFIG).exists());
    }
}
