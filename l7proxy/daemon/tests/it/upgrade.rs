use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mesh_l7proxy_wire::{RefusalKind, WorkerState};

use crate::backend::Backend;
use crate::config::{ControlPlane, free_address, site};
use crate::harness::{L7PROXY, Proxy, is_alive, poll};
use crate::http::Connection;

#[test]
fn upgrade_replaces_the_worker_and_keeps_the_starter() {
    let mut proxy = Proxy::start();
    let old = proxy.wait_for_worker(|_| true);
    let pid = proxy.client().upgrade(Path::new(L7PROXY), Duration::from_secs(20)).unwrap();
    assert_ne!(pid, old.pid);
    let new = proxy.wait_for_worker(|worker| worker.pid == pid);
    assert_eq!(new.state, WorkerState::Serving);
    assert_eq!(new.binary, Path::new(L7PROXY));
    assert!(poll(|| (!is_alive(old.pid)).then_some(())).is_some());
    let status = proxy.status();
    assert_eq!(status.pid, proxy.pid());
    assert_eq!(status.restarts, 0);
    assert_eq!(status.workers.len(), 1);
}

#[test]
fn binary_that_does_not_serve_changes_nothing() {
    let mut proxy = Proxy::start();
    let old = proxy.wait_for_worker(|_| true);
    for binary in ["/bin/false", "/bin/true"] {
        let refused = proxy.client().upgrade(Path::new(binary), Duration::from_secs(20)).unwrap_err();
        assert_eq!(refused.refusal().unwrap().kind, RefusalKind::UpgradeFailed, "{refused:?}");
    }
    let now = proxy.wait_for_worker(|_| true);
    assert_eq!((now.pid, now.state), (old.pid, WorkerState::Serving));
    assert_eq!(proxy.status().restarts, 0);
}

#[test]
fn binary_that_hangs_is_killed_after_its_time() {
    let mut proxy = Proxy::start();
    let old = proxy.wait_for_worker(|_| true);
    let script = proxy.folder.path().join("hangs");
    std::fs::write(&script, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let refused = proxy.client().upgrade(&script, Duration::from_millis(300)).unwrap_err();
    assert!(refused.refusal().unwrap().message.contains("in time"), "{refused:?}");
    let alone = poll(|| (proxy.status().workers.len() == 1).then_some(()));
    assert!(alone.is_some());
    assert_eq!(proxy.wait_for_worker(|_| true).pid, old.pid);
}

#[test]
fn path_that_cannot_be_run_is_refused_at_once() {
    let proxy = Proxy::start();
    for path in ["l7proxy", "/nowhere/l7proxy", "/etc/passwd"] {
        let refused = proxy.client().upgrade(Path::new(path), Duration::from_secs(20)).unwrap_err();
        let refusal = refused.refusal().unwrap();
        assert_eq!(refusal.kind, RefusalKind::Invalid);
        assert!(refusal.message.contains(path), "{refusal}");
    }
}

/// Asks until told to stop, on fresh or on reused connections. Returns how many answers came.
pub(crate) fn ask_on(address: SocketAddr, reuse: bool, stop: &AtomicBool) -> Result<usize, String> {
    let mut answers = 0;
    let mut kept: Option<Connection> = None;
    while !stop.load(Ordering::Relaxed) {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => Connection::open(address).map_err(|error| format!("connect: {error}"))?,
        };
        let answer = connection.get("/").map_err(|error| format!("after {answers} answers: {error}"))?;
        if (answer.status, answer.body.as_str()) != (200, "steady") {
            return Err(format!("{answer:?}"));
        }
        answers += 1;
        if reuse && !answer.last {
            kept = Some(connection);
        }
    }
    Ok(answers)
}

/// What four clients say, of fresh and of reused connections, that asked all the time while something happened.
pub(crate) fn while_asked(address: SocketAddr, happens: impl FnOnce()) -> Vec<Result<usize, String>> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let clients =
            [false, true, false, true].map(|reuse| scope.spawn(move || ask_on(address, reuse, stop)));
        happens();
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

#[test]
fn upgrades_lose_no_request() {
    const UPGRADES: usize = 5;
    let mut proxy = Proxy::start();
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let (backend, listen) = (Backend::start("steady"), free_address());
    control_plane.publish(&site("web", listen, backend.address));

    let answers = while_asked(listen, || {
        for _ in 0..UPGRADES {
            proxy.client().upgrade(Path::new(L7PROXY), Duration::from_secs(20)).unwrap();
            let one = poll(|| (proxy.status().workers.len() == 1).then_some(()));
            assert!(one.is_some(), "the old worker stays\n{}", proxy.log());
        }
    });
    for answer in &answers {
        assert!(answer.as_ref().is_ok_and(|count| *count > UPGRADES), "{answers:?}\n{}", proxy.log());
    }
    assert_eq!(proxy.wait_for_worker(|_| true).generation, 1 + UPGRADES as u64);
}
