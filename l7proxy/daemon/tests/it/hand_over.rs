//! A starter that takes the place of another one.

use std::path::Path;
use std::time::Duration;

use mesh_l7proxy_wire::RefusalKind;
use rustix::process::Signal;

use crate::backend::Backend;
use crate::config::{ControlPlane, free_address, site};
use crate::harness::{L7PROXY, Proxy, is_alive, poll};
use crate::lifecycle::spec;
use crate::upgrade::while_asked;

const NAMED: &[&str] = &["--take-over", "--instance"];

fn named(name: &str) -> Vec<&str> {
    NAMED.iter().copied().chain([name]).collect()
}

/// The exit code of `l7proxy status` for a name.
fn status_of(proxy: &Proxy, name: &str) -> Option<i32> {
    let mut status = std::process::Command::new(L7PROXY);
    status.arg("status").arg("--run-dir").arg(proxy.run_dir()).env("MILLRACE_INSTANCE", name);
    status.output().unwrap().status.code()
}

#[test]
fn starters_that_take_over_from_each_other_lose_no_request() {
    const TIMES: usize = 5;
    let mut proxy = Proxy::start_with(&named("0"));
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let (backend, listen) = (Backend::start("steady"), free_address());
    control_plane.publish(&site("web", listen, backend.address));

    let answers = while_asked(listen, || {
        for time in 1..=TIMES {
            let name = time.to_string();
            let (mut old, old_name) = (proxy.succeed(&named(&name)), (time - 1).to_string());
            assert_eq!(proxy.status().instance.as_deref(), Some(name.as_str()));
            assert_eq!((status_of(&proxy, &name), status_of(&proxy, &old_name)), (Some(0), Some(1)));
            // It stays, so that nobody starts it again in its pod, until it is told to go.
            assert_eq!(old.try_wait().unwrap(), None, "{}", proxy.log());
            crate::harness::kill(old.id(), Signal::TERM);
            let ended = poll(|| old.try_wait().unwrap()).expect("it ends");
            assert!(ended.success(), "{ended}\n{}", proxy.log());
        }
    });
    for answer in &answers {
        assert!(answer.as_ref().is_ok_and(|count| *count > TIMES), "{answers:?}\n{}", proxy.log());
    }
    let status = proxy.status();
    assert_eq!((status.workers.len(), status.workers[0].generation), (1, 1 + TIMES as u64));
    assert_eq!((status.restarts, status.listeners), (0, 1));
    // What the successor holds is whole: it is replaced and stopped as the first one would be.
    proxy.client().upgrade(Path::new(L7PROXY), Duration::from_secs(20)).unwrap();
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
    assert!(!proxy.run_dir().join("starter.sock").exists());
}

#[test]
fn a_starter_that_is_not_to_wait_ends_when_another_has_taken_over() {
    let mut proxy = Proxy::start();
    let mut old = proxy.succeed(&["--take-over"]);
    let ended = poll(|| old.try_wait().unwrap()).expect("it ends");
    assert!(ended.success(), "{ended}\n{}", proxy.log());
    assert_eq!(proxy.admin("/server_info").0, 200);
}

#[test]
fn a_successor_that_dies_before_it_serves_changes_nothing() {
    let mut proxy = Proxy::start();
    let worker = proxy.wait_for_worker(|_| true);
    let mut successor = proxy.client();
    let inheritance = successor.hand_over().unwrap();
    assert_eq!((inheritance.estate.generation, inheritance.estate.worker_threads), (1, 2));
    let refused = proxy.client().listen(spec("late")).unwrap_err();
    assert_eq!(refused.refusal().unwrap().kind, RefusalKind::Busy, "{refused:?}");
    let refused = proxy.client().hand_over().unwrap_err();
    assert_eq!(refused.refusal().unwrap().kind, RefusalKind::Busy, "{refused:?}");
    let refused = proxy.client().taken_over().unwrap_err();
    assert_eq!(refused.refusal().unwrap().kind, RefusalKind::Busy, "{refused:?}");
    drop((successor, inheritance));
    assert!(poll(|| proxy.client().listen(spec("late")).ok()).is_some());
    assert_eq!(proxy.wait_for_worker(|_| true).pid, worker.pid);
    proxy.client().upgrade(Path::new(L7PROXY), Duration::from_secs(20)).unwrap();
}

#[test]
fn a_starter_that_is_stopped_while_it_hands_over_leaves_all_to_its_successor() {
    let mut proxy = Proxy::start();
    let worker = proxy.wait_for_worker(|_| true);
    let opened = proxy.client().listen(spec("kept")).unwrap();
    let mut successor = proxy.client();
    let inheritance = successor.hand_over().unwrap();
    let inherited = successor.listeners().unwrap();
    assert_eq!(inherited[0].info.local, opened.info.local);
    drop(opened);
    proxy.signal(Signal::TERM);
    assert!(poll(|| (!is_alive(worker.pid)).then_some(())).is_some(), "{}", proxy.log());
    // Connections wait for the successor, and so do those who ask.
    std::net::TcpStream::connect(inherited[0].info.local).unwrap();
    assert!(proxy.run_dir().join("starter.sock").exists());
    assert!(proxy.wait().success());
    drop((inheritance, inherited, successor));
    proxy.start_again();
}

#[test]
fn a_successor_of_a_starter_that_dies_serves_alone() {
    let mut proxy = Proxy::start();
    let mut old = proxy.succeed(&["--take-over"]);
    old.wait().unwrap();
    let middle = proxy.pid();
    let mut last = proxy.succeed(&["--take-over"]);
    assert_eq!(last.id(), middle);
    crate::harness::kill(middle, Signal::KILL);
    last.wait().unwrap();
    assert_eq!(proxy.admin("/server_info").0, 200);
    proxy.client().listen(spec("more")).unwrap();
}
