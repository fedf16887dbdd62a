//! The folder of a cluster: what it was made as, its keys, records, logs and the nodes' files. Private to root.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use mesh_testkit::wait;
use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::programs::Programs;
use crate::settings;
use crate::spec::{Spec, node_name};

/// Where clusters live. On disk: containers' layers lie on it.
const BASE: &str = "/var/lib/millrace-cluster";

/// What a starter that was killed has just begun holds its lock until it has become another program: for
/// milliseconds, on a busy machine more.
const LOCK_WITHIN: Duration = Duration::from_secs(5);

/// Folders of a node that stand in for the machine's own, and where.
pub(crate) const STANDINS: &[(&str, &str)] = &[
    ("cni-bin", "/opt/cni/bin"),
    ("cni-conf", "/etc/cni/net.d"),
    ("cni-state", "/var/lib/cni"),
    ("kubelet", "/var/lib/kubelet"),
    ("containerd", "/var/lib/containerd"),
    ("log-pods", "/var/log/pods"),
    ("log-containers", "/var/log/containers"),
];

/// What a cluster was made as: kept for those who come later.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) spec: Spec,
    /// Folders of the programs from outside.
    pub(crate) programs: Vec<PathBuf>,
    /// Folders of the machine that were made so that a node's can be laid over them, the outermost first.
    pub(crate) made_folders: Vec<PathBuf>,
    /// Settings of the machine that kubelet changes, and what they were.
    pub(crate) settings: Vec<(PathBuf, String)>,
}

/// The folder of one cluster.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// That of a cluster; it need not be there.
    pub fn of(name: &str) -> Self {
        Self(Path::new(BASE).join(name))
    }

    /// Names of the clusters that are there, or were.
    pub fn names() -> Vec<String> {
        let entries = fs::read_dir(BASE).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Held by whoever makes or removes a cluster.
    ///
    /// # Errors
    /// Somebody else does at this moment, or this is not root.
    pub(crate) fn lock() -> anyhow::Result<Flock<File>> {
        private_folder(Path::new(BASE))?;
        wait::until("taking the lock of all clusters", LOCK_WITHIN, || {
            let folder = File::open(BASE).with_context(|| format!("cannot open {BASE}"))?;
            Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
                anyhow!("{BASE} is locked ({error}): somebody else makes or removes a cluster; wait until that has ended")
            })
        })
    }

    /// Makes it, with what lies in it.
    pub(crate) fn create(&self, nodes: u8) -> anyhow::Result<()> {
        private_folder(&self.0)?;
        for part in ["logs", "records", "keys", "images", "etcd"] {
            private_folder(&self.0.join(part))?;
        }
        for node in (1..=nodes).map(node_name) {
            for (part, _) in STANDINS {
                // Pods that are not root look into some of these: only the way here is closed.
                fs::create_dir_all(self.node(&node).join(part))?;
            }
            for part in ["logs", "records"] {
                private_folder(&self.node(&node).join(part))?;
            }
        }
        Ok(())
    }

    pub(crate) fn exists(&self) -> bool {
        self.0.is_dir()
    }

    /// Removes it with all that is in it, and the folder of all clusters with the last one.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", self.0.display()));
            }
            _ => {}
        }
        // Another cluster may live in it.
        let _ = fs::remove_dir(BASE);
        Ok(())
    }

    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.0.join(part)
    }

    /// A key or certificate.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.0.join("keys").join(name)
    }

    /// The kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    pub(crate) fn load(&self) -> anyhow::Result<Option<Made>> {
        read_json(&self.0.join("cluster.json"))
    }

    pub(crate) fn store(&self, made: &Made) -> anyhow::Result<()> {
        write_private(&self.0.join("cluster.json"), &serde_json::to_vec_pretty(made)?)
    }
}

/// A JSON file, `None` where there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        outcome => outcome.with_context(|| format!("cannot read {}", path.display()))?,
    };
    serde_json::from_slice(&bytes).map(Some).with_context(|| format!("{} is damaged", path.display()))
}

/// Writes a file that only its owner reads, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn private_folder(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make {}: a cluster needs root", path.display()))
}

impl Made {
    /// What a new cluster will be. What it changes on the machine is known, and stored, before it is changed.
    pub(crate) fn new(spec: &Spec, programs: &Programs) -> Self {
        let mut made_folders: Vec<PathBuf> = Vec::new();
        for (_, target) in STANDINS {
            let missing = Path::new(target).ancestors().take_while(|path| !path.exists());
            let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
            missing.retain(|folder| !made_folders.contains(folder));
            made_folders.extend(missing.into_iter().rev());
        }
        // Where another cluster is, the settings are no longer what they were: it keeps them.
        let is_first = others(&spec.name).is_empty();
        let settings = if is_first { settings::read() } else { Vec::new() };
        Self { spec: spec.clone(), programs: programs.folders().to_vec(), made_folders, settings }
    }

    /// Once the cluster is gone: makes the machine what it was, or lets another cluster, which needs the same,
    /// do so in its time.
    pub(crate) fn hand_over_or_undo(self) -> anyhow::Result<()> {
        if let Some((folder, mut heir)) = others(&self.spec.name).pop() {
            heir.made_folders.splice(0..0, self.made_folders);
            if !self.settings.is_empty() {
                heir.settings = self.settings;
            }
            return folder.store(&heir);
        }
        settings::restore(&self.settings);
        for folder in self.made_folders.iter().rev() {
            // Stays where somebody else has put something into it.
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }
}

/// Other clusters of this machine.
pub(crate) fn others(name: &str) -> Vec<(Folder, Made)> {
    let names = Folder::names().into_iter().filter(|other| other != name);
    let folders = names.map(|name| Folder::of(&name));
    folders.filter_map(|folder| folder.load().ok().flatten().map(|made| (folder, made))).collect()
}

/// Makes folders where they are missing.
pub(crate) fn make(folders: &[PathBuf]) -> anyhow::Result<()> {
    let mut made = folders.iter().map(|folder| (folder, fs::create_dir_all(folder)));
    made.try_for_each(|(folder, made)| made.with_context(|| format!("cannot make {}", folder.display())))
}
