//! `down` leaves nothing, whatever died before.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mesh_conformance_cluster::cgroup::Cgroup;
use mesh_conformance_cluster::cluster;
use mesh_conformance_cluster::spec::{IpFamily, prefix};
use mesh_conformance_cluster::status::Status;

use crate::fixture::{Own, Pods, spec};

/// Moments at which `up` is killed, in milliseconds after its start: while it makes keys and devices, starts the
/// API server and containerd, loads images, waits for kubelet, connects pods.
const MOMENTS: &[u64] = &[5, 40, 120, 400, 900, 1800, 3500, 6000, 9000];

#[test]
#[ignore = "needs a cluster"]
fn cluster_down_leaves_nothing_when_up_was_killed_at_any_moment() {
    let name = "crash";
    let _own = Own::new(spec(name, 2, IpFamily::Dual));
    let before = Machine::now();
    for &moment in MOMENTS {
        up_killed_after(moment, name, IpFamily::Dual);
        let processes = processes_of(name);
        cluster::down(name).unwrap_or_else(|error| panic!("after {moment} ms: {error:#}"));
        before.assert_unchanged(name, &processes, &format!("killed after {moment} ms"));
    }
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_a_down_that_was_killed_is_finished_by_the_next() {
    let own = Own::new(spec("halfway", 1, IpFamily::Ipv4));
    let name = &own.spec.name;
    let before = Machine::now();
    for moment in [10, 60, 150, 300] {
        own.up();
        let processes = processes_of(name);
        let mut down = Command::new(env!("CARGO_BIN_EXE_cluster"));
        let mut down =
            down.args(["down", "--name", name]).stdout(Stdio::null()).spawn().expect("down starts");
        std::thread::sleep(Duration::from_millis(moment));
        // One that has ended by then is no less to be followed by another.
        down.kill().expect("killed");
        down.wait().expect("waited for");
        cluster::down(name).unwrap_or_else(|error| panic!("after {moment} ms: {error:#}"));
        before.assert_unchanged(name, &processes, &format!("down killed after {moment} ms"));
    }
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_down_leaves_nothing_of_pods_whose_kubelet_and_containerd_were_killed() {
    let own = Own::new(spec("killed", 1, IpFamily::Ipv4));
    let name = &own.spec.name;
    let before = Machine::now();
    let cluster = own.up();
    let pods = Pods::new(&cluster, "it");
    pods.server("web", "node1");
    pods.ready();
    let status = Status::of(&cluster);
    for victim in ["kubelet", "containerd", "node", "etcd"] {
        let program = status.programs.iter().find(|program| program.name == victim).expect("it is listed");
        kill(program.process.expect("it runs"));
    }
    let processes = processes_of(name);
    let is_there = |program: &str| processes.values().any(|(_, comm)| comm == program);
    assert!(is_there("agnhost") && is_there("pause"), "the pod was to outlive them: {processes:?}");
    assert!(cluster::down(name).expect("down"), "there was something");
    before.assert_unchanged(name, &processes, "kubelet, containerd and the node's init killed");
    assert!(!cluster::down(name).expect("down of nothing"), "there is nothing any more");
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_down_of_one_cluster_leaves_another_alone() {
    let own = Own::new(spec("second", 1, IpFamily::Ipv4));
    own.up();
    drop(own);
    let first = crate::fixture::shared();
    // Its mounts lie over folders of the machine that both needed.
    let plugins = first.node("node1").expect("a node").exec("ls", &["/opt/cni/bin", "/etc/cni/net.d"]);
    assert!(plugins.expect("the folders are there").contains("loopback"));
    let status = Status::of(&first);
    assert!(status.well, "{}", status.table());
}

/// Begins to make a cluster of two nodes, and is killed after so many milliseconds.
pub(crate) fn up_killed_after(moment: u64, name: &str, family: IpFamily) {
    let mut up = Command::new(env!("CARGO_BIN_EXE_cluster"));
    up.args(["up", "--name", name, "--nodes", "2", "--ip-family", &family.to_string()]).stdout(Stdio::null());
    let mut up = up.spawn().expect("up starts");
    std::thread::sleep(Duration::from_millis(moment));
    up.kill().expect("killed");
    up.wait().expect("waited for");
}

/// Kills one process, by its id.
pub(crate) fn kill(id: u32) {
    let id = i32::try_from(id).expect("an id");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL)
        .expect("killed");
}

/// What of the machine a cluster changes and has to put back.
struct Machine {
    settings: Vec<String>,
    folders: Vec<bool>,
}

impl Machine {
    fn now() -> Self {
        let settings =
            ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys"];
        let folders = ["/var/lib/kubelet", "/var/lib/cni", "/opt/cni", "/etc/cni", "/var/log/pods"];
        let read = |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name)).expect("a setting");
        Self {
            settings: settings.map(read).to_vec(),
            folders: folders.map(|path| Path::new(path).exists()).to_vec(),
        }
    }

    /// Fails when anything on the machine has the cluster's name in it, when one of its processes still runs, or
    /// when the machine is not what it was. Others make and remove namespaces of theirs meanwhile, which are
    /// not looked at.
    fn assert_unchanged(&self, name: &str, processes: &Processes, when: &str) {
        let prefix = prefix(name);
        let is_ours = |text: &str| {
            let mut words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
            words.any(|word| {
                word == prefix || word.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with('-'))
            })
        };
        for folder in ["/run/netns", "/sys/class/net"] {
            let left: Vec<String> =
                names(Path::new(folder)).into_iter().filter(|name| is_ours(name)).collect();
            assert!(left.is_empty(), "{when}: {folder} still has {left:?}");
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let own_folder = format!("/var/lib/millrace-cluster/{name}");
        let left: Vec<&str> =
            mounts.lines().filter(|line| is_ours(line) || line.contains(&own_folder)).collect();
        assert!(left.is_empty(), "{when}: still mounted: {left:?}");
        assert!(!Path::new(&own_folder).exists(), "{when}: {own_folder} is still there");
        for hierarchy in hierarchies(&mounts) {
            let left: Vec<String> = names(&hierarchy).into_iter().filter(|name| is_ours(name)).collect();
            assert!(left.is_empty(), "{when}: cgroups {left:?} in {}", hierarchy.display());
        }
        // Those that were its own, and any other that still speaks of it or is still in its cgroups.
        for entry in names(Path::new("/proc")) {
            let Ok(id) = entry.parse::<u32>() else { continue };
            // One that has ended may wait for its parent to ask how: it is nothing but its number.
            let Some(began) = process(id) else { continue };
            let was_ours = processes.get(&id) == Some(&began);
            let read = |file| fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
            let speaks = read("cmdline").contains(&own_folder) || is_ours(&read("cgroup"));
            assert!(!was_ours && !speaks, "{when}: process {id} is left: {began:?} {}", read("cmdline"));
        }
        let now = Self::now();
        assert_eq!(now.settings, self.settings, "{when}: settings of the machine");
        assert_eq!(now.folders, self.folders, "{when}: folders of the machine");
    }
}

/// Processes by id: when they began, and their names.
type Processes = BTreeMap<u32, (u64, String)>;

/// Those of a cluster that run now.
fn processes_of(name: &str) -> Processes {
    let groups = Cgroup::all(&format!("{}-", prefix(name))).expect("cgroups");
    let ids = groups.iter().flat_map(Cgroup::processes);
    ids.filter_map(|id| Some((id, process(id)?))).collect()
}

/// When a process began and its name; none when it has ended.
fn process(id: u32) -> Option<(u64, String)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (before, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let state = fields.next()?;
    let began = fields.nth(18)?.parse().ok()?;
    (state != "Z")
        .then(|| (began, before.split_once('(').map_or_else(String::new, |(_, name)| name.to_owned())))
}

fn hierarchies(mounts: &str) -> Vec<PathBuf> {
    let is_cgroup = |line: &&str| line.contains(" - cgroup");
    mounts.lines().filter(is_cgroup).filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
