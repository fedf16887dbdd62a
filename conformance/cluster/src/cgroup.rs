//! Cgroups of a cluster: one folder in each hierarchy. They hold every process of the cluster, and so they
//! are what tells ours from others' when it ends, whatever happened to the one that started them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use mesh_testkit::wait;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Below the cgroup of a node: what is not a pod. Under cgroup v2 a group with controlled children has no
/// processes of its own.
const SYSTEM: &str = "system";
/// How long the kernel may take to end what was killed.
const END_WITHIN: Duration = Duration::from_secs(30);

/// A cgroup of one name in every hierarchy of this machine, v1 and v2.
#[derive(Clone, Debug)]
pub struct Cgroup {
    name: String,
    hierarchies: Vec<PathBuf>,
}

impl Cgroup {
    /// The cgroup of this name at the root of each hierarchy; it need not be there.
    ///
    /// # Errors
    /// No cgroup file system is mounted.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        let hierarchies = hierarchies(&fs::read_to_string("/proc/self/mountinfo")?);
        ensure!(!hierarchies.is_empty(), "no cgroup file system is mounted: mount one on /sys/fs/cgroup");
        Ok(Self { name: name.to_owned(), hierarchies })
    }

    /// Those that are there and whose name begins with `prefix`.
    ///
    /// # Errors
    /// No cgroup file system is mounted.
    pub fn all(prefix: &str) -> anyhow::Result<Vec<Self>> {
        let hierarchies = hierarchies(&fs::read_to_string("/proc/self/mountinfo")?);
        let mut names = BTreeSet::new();
        for hierarchy in &hierarchies {
            let folders = subfolders(hierarchy)?;
            let folder_names = folders.iter().filter_map(|folder| folder.file_name());
            names.extend(folder_names.map(|name| name.to_string_lossy().into_owned()));
        }
        names.retain(|name| name.starts_with(prefix));
        names.iter().map(|name| Self::named(name)).collect()
    }

    /// Its path below each hierarchy, as kubelet and runc want it.
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// Files into which a process writes its id to be in its system part.
    pub fn doors(&self) -> Vec<PathBuf> {
        self.folders().map(|folder| folder.join(SYSTEM).join("cgroup.procs")).collect()
    }

    /// Makes it and its system part where they are missing.
    ///
    /// # Errors
    /// This is not root, or the kernel refuses.
    pub fn create(&self) -> anyhow::Result<()> {
        for hierarchy in &self.hierarchies {
            let folder = hierarchy.join(&self.name);
            for folder in [folder.clone(), folder.join(SYSTEM)] {
                create(&folder).with_context(|| format!("cannot make the cgroup {}", folder.display()))?;
            }
        }
        Ok(())
    }

    /// Processes in it and below it.
    pub fn processes(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        for folder in self.folders() {
            walk(&folder, &mut |folder| {
                let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
                found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            });
        }
        found
    }

    /// Kills all that is in it and below it, and waits until they have ended.
    ///
    /// # Errors
    /// Something does not end.
    pub fn kill(&self) -> anyhow::Result<()> {
        wait::until("the processes of a cgroup end", END_WITHIN, || {
            let processes = self.processes();
            for &process in &processes {
                self.kill_one(process);
            }
            ensure!(processes.is_empty(), "{} still has processes {processes:?}", self.name);
            Ok(())
        })
    }

    /// Removes it, and what is below it. Kills what comes in meanwhile: whoever was started by one that was killed
    /// joins by itself, a moment after it was looked for; when the cgroup is gone it ends without having begun.
    ///
    /// # Errors
    /// Something is still in it.
    pub fn remove(&self) -> anyhow::Result<()> {
        for folder in self.folders() {
            wait::until("a cgroup is removed", END_WITHIN, || {
                self.processes().into_iter().for_each(|process| self.kill_one(process));
                let mut outcome = Ok(());
                walk(&folder, &mut |folder| match fs::remove_dir(folder) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => outcome = Err(error),
                    _ => {}
                });
                outcome.with_context(|| format!("cannot remove the cgroup {}", folder.display()))
            })?;
        }
        Ok(())
    }

    /// Whether any hierarchy has it.
    pub fn exists(&self) -> bool {
        self.folders().any(|folder| folder.is_dir())
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        self.hierarchies.iter().map(|hierarchy| hierarchy.join(&self.name))
    }

    /// A number in the list may be another's process a moment later: it is held by a descriptor first, and
    /// asked again whether it is ours.
    fn kill_one(&self, process: u32) {
        let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
        let Some(Ok(descriptor)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { return };
        let cgroups = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
        if belongs(&cgroups, &self.name) {
            // One that has ended meanwhile is what is wanted; one that cannot be killed is waited for in vain,
            // and named then.
            let _ = pidfd_send_signal(&descriptor, Signal::KILL);
        }
    }
}

/// Whether a process whose /proc/PID/cgroup is this is in a cgroup.
fn belongs(cgroups: &str, name: &str) -> bool {
    let mut paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.any(|path| path.trim_start_matches('/').split('/').next() == Some(name))
}

/// Mount points of cgroup hierarchies in a mountinfo file.
fn hierarchies(mountinfo: &str) -> Vec<PathBuf> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        matches!(kind, "cgroup" | "cgroup2").then(|| before.split(' ').nth(4)).flatten()
    });
    mounts.map(PathBuf::from).collect()
}

fn create(folder: &Path) -> anyhow::Result<()> {
    let parent = folder.parent().context("a cgroup has a parent")?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        outcome => outcome?,
    }
    // Version 1 takes no process into a set of no cores.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (own, of_parent) = (folder.join(file), parent.join(file));
        if own.exists() && of_parent.exists() && fs::read_to_string(&own)?.trim().is_empty() {
            fs::write(&own, fs::read_to_string(&of_parent)?)?;
        }
    }
    // Version 2 hands no controller down unasked. The system part has no children.
    let controllers = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    if folder.file_name().is_some_and(|name| name != SYSTEM) && !controllers.trim().is_empty() {
        let all: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
        fs::write(folder.join("cgroup.subtree_control"), all.join(" "))?;
    }
    Ok(())
}

/// Calls for a cgroup and what is below it, the deepest first.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    for below in subfolders(folder).unwrap_or_default() {
        walk(&below, visit);
    }
    if folder.is_dir() {
        visit(folder);
    }
}

fn subfolders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.flatten();
    Ok(entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found_where_they_are_mounted() {
        let mountinfo = "30 24 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
            31 24 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n\
            32 24 0:28 / /sys/fs/bpf rw - bpf bpf rw\n";
        let found = hierarchies(mountinfo);
        assert_eq!(found, [PathBuf::from("/sys/fs/cgroup/cpu"), "/sys/fs/cgroup/unified".into()]);
    }

    #[test]
    fn a_process_of_a_cgroup_with_a_longer_name_is_not_ours() {
        assert!(belongs("4:memory:/mrc-dev-node1/kubepods/pod1\n0::/\n", "mrc-dev-node1"));
        assert!(!belongs("4:memory:/mrc-dev-node10\n0::/user/mrc-dev-node1\n", "mrc-dev-node1"));
    }
}
