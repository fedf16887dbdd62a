use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use serde_json::Value;

use crate::harness::{L7PROXY, Proxy, command, poll, proc_status};

fn capability_sets(pid: u32) -> Vec<u64> {
    ["CapInh", "CapPrm", "CapEff", "CapAmb"]
        .iter()
        .map(|set| u64::from_str_radix(&proc_status(pid, set).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn worker_has_no_capability_and_is_confined() {
    let mut proxy = Proxy::start();
    let worker = proxy.wait_for_worker(|_| true).pid;
    assert_eq!(capability_sets(worker), [0, 0, 0, 0]);
    assert_eq!(proc_status(worker, "NoNewPrivs").unwrap(), "1");
    assert_eq!(proc_status(worker, "Seccomp").unwrap(), "2");
    let (status, info) = proxy.admin("/server_info");
    assert_eq!(status, 200);
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["pid"], worker);
    assert_eq!(info["sandbox"]["capabilities"], Value::Array(Vec::new()));
    assert_eq!(info["sandbox"]["seccomp"], "enforced");
}

#[test]
fn starter_keeps_net_raw_at_most() {
    const NET_RAW: u64 = 1 << 13;
    let proxy = Proxy::start();
    for set in capability_sets(proxy.pid()) {
        assert_eq!(set & !NET_RAW, 0, "{set:x}");
    }
    assert_eq!(proc_status(proxy.pid(), "NoNewPrivs").unwrap(), "1");
}

#[test]
fn worker_inherits_its_channel_and_the_standard_streams_only() {
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "SKIPPED: worker_inherits_its_channel_and_the_standard_streams_only: /proc/PID/fd needs root"
        );
        return;
    }
    let mut proxy = Proxy::start();
    let worker = proxy.wait_for_worker(|_| true).pid;
    let targets: Vec<String> = std::fs::read_dir(format!("/proc/{worker}/fd"))
        .unwrap()
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().to_string_lossy().into_owned())
        .collect();
    // Its end of the channel, the admin listener, and the pair by which its runtime hears of signals.
    let sockets: BTreeSet<_> = targets.iter().filter(|target| target.starts_with("socket:")).collect();
    assert!(sockets.len() <= 4, "{targets:?}");
    assert!(!targets.iter().any(|target| target.starts_with("pipe:")), "{targets:?}");
    assert!(!targets.iter().any(|target| target.ends_with("starter.lock")), "{targets:?}");
}

#[test]
fn run_directory_and_sockets_are_for_their_owner_only() {
    let proxy = Proxy::start();
    let mode = |name: &str| {
        let metadata = std::fs::metadata(proxy.run_dir().join(name)).unwrap();
        assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw());
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode(""), 0o700);
    assert_eq!(mode("starter.sock"), 0o600);
    assert_eq!(mode("proxy-admin.sock"), 0o600);
    assert_eq!(mode("starter.lock"), 0o600);
}

#[test]
fn run_directory_that_others_may_write_to_is_refused_with_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let output = command(folder.path()).output().unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("chmod 700"), "{message}");
}

#[test]
fn worker_started_by_hand_says_what_starts_it() {
    let output = Command::new(L7PROXY)
        .args(["worker", "--control-fd", "77", "--threads", "1", "--xds-socket", "/nowhere"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("l7proxy starter"), "{message}");
}

#[test]
fn starter_becomes_the_user_it_is_told() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: starter_becomes_the_user_it_is_told: --user needs root");
        return;
    }
    // Below /tmp, whose parents anybody may search; the test's own user reads the logs.
    let mut proxy = Proxy::start_with(&["--user", "65532"]);
    let worker = proxy.wait_for_worker(|_| true).pid;
    for pid in [proxy.pid(), worker] {
        assert_eq!(proc_status(pid, "Uid").unwrap(), "65532\t65532\t65532\t65532");
        assert_eq!(proc_status(pid, "Gid").unwrap(), "65532\t65532\t65532\t65532");
    }
    assert_eq!(proc_status(proxy.pid(), "Groups").unwrap(), "");
    assert_eq!(capability_sets(proxy.pid())[1..3], [1 << 13, 1 << 13]);
    assert_eq!(capability_sets(worker), [0, 0, 0, 0]);
    assert!(poll(|| (proxy.admin("/server_info").0 == 200).then_some(())).is_some());
    // What somebody else has in the run directory, that user cannot replace: the folder is not its own, and sticky.
    let folder = std::fs::metadata(proxy.run_dir()).unwrap();
    assert_eq!((folder.uid(), folder.gid(), folder.permissions().mode() & 0o7777), (0, 65532, 0o1770));
}
