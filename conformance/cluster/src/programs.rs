//! Programs from outside: etcd, Kubernetes, CNI plugins. Built by `cargo xtask cluster build` into the cache.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// Names the folders of the programs, separated by colons.
pub const VARIABLE: &str = "MILLRACE_CLUSTER_PROGRAMS";

/// Where programs are.
#[derive(Clone, Debug)]
pub struct Programs(Vec<PathBuf>);

impl Programs {
    /// Those in these folders.
    pub fn in_folders(folders: Vec<PathBuf>) -> Self {
        Self(folders)
    }

    /// Those that the environment names.
    ///
    /// # Errors
    /// It names none.
    pub fn from_environment() -> anyhow::Result<Self> {
        let text = std::env::var_os(VARIABLE);
        let text =
            text.with_context(|| format!("{VARIABLE} is not set: use `cargo xtask cluster`, which sets it"))?;
        Ok(Self(std::env::split_paths(&text).collect()))
    }

    /// The folders.
    pub fn folders(&self) -> &[PathBuf] {
        &self.0
    }

    /// A program.
    ///
    /// # Errors
    /// It is not there.
    pub fn find(&self, name: &str) -> anyhow::Result<PathBuf> {
        let mut places = self.0.iter().map(|folder| folder.join(name));
        let found = places.find(|path| path.is_file());
        found.with_context(|| format!("there is no {name}: run `cargo xtask cluster build`"))
    }
}

/// A program of the system's packages.
///
/// # Errors
/// It is not on the path.
pub(crate) fn of_the_system(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Not every PATH has the folders of administrators' programs.
    let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(administrators).map(|folder| folder.join(name));
    let found = places.find(|path| Path::is_file(path));
    found.with_context(|| format!("{name} is not installed: install the packages containerd and runc"))
}
