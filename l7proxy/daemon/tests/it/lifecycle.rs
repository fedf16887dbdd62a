use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use mesh_l7proxy_wire::{ListenSpec, RefusalKind, StarterClient, WorkerState};
use rustix::process::Signal;

use crate::harness::{Proxy, command, is_alive, kill, poll};

/// A listener on any port, with a socket for each of two threads.
pub(crate) fn spec(name: &str) -> ListenSpec {
    ListenSpec {
        name: name.to_owned(),
        address: "127.0.0.1:0".parse().unwrap(),
        transparent: false,
        sockets: 2,
        backlog: 64,
    }
}

#[test]
fn killed_worker_is_replaced_within_two_seconds() {
    let mut proxy = Proxy::start();
    let first = proxy.wait_for_worker(|_| true);
    kill(first.pid, Signal::KILL);
    let killed = Instant::now();
    let second =
        proxy.wait_for_worker(|worker| worker.pid != first.pid && worker.state == WorkerState::Serving);
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
    assert_eq!(second.generation, first.generation + 1);
    let status = proxy.status();
    assert_eq!(status.restarts, 1);
    assert!(status.last_exit.unwrap().contains("SIGKILL"));
}

#[test]
fn listeners_outlive_workers_and_are_handed_out_again() {
    let mut proxy = Proxy::start();
    let opened = proxy.client().listen(spec("web")).unwrap();
    assert_eq!(opened.sockets.len(), 2);
    drop(opened.sockets);
    let first = proxy.wait_for_worker(|_| true);
    kill(first.pid, Signal::KILL);
    let waiting = TcpStream::connect(opened.info.local).unwrap();
    proxy.wait_for_worker(|worker| worker.pid != first.pid && worker.state == WorkerState::Serving);

    let mut client = proxy.client();
    let again = client.listeners().unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].info, opened.info);
    let accepted = poll(|| {
        again[0].sockets.iter().find_map(|socket| {
            let listener = TcpListener::from(socket.try_clone().unwrap());
            listener.accept().ok()
        })
    });
    assert_eq!(accepted.unwrap().1, waiting.local_addr().unwrap());

    assert!(client.close("web", opened.info.local).unwrap());
    assert!(client.listeners().unwrap().is_empty());
}

#[test]
fn second_starter_in_the_same_directory_is_refused_by_name() {
    let proxy = Proxy::start();
    let output = command(&proxy.run_dir()).output().unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("another starter") && message.contains("l7proxy stop"), "{message}");
    assert!(proxy.client().status().is_ok(), "the first one is not disturbed");
}

#[test]
fn sockets_that_a_dead_starter_left_behind_are_replaced() {
    let mut proxy = Proxy::start();
    proxy.signal(Signal::KILL);
    proxy.wait();
    let run_dir = proxy.run_dir();
    assert!(run_dir.join("starter.sock").exists());
    let mut second = command(&run_dir).stderr(Stdio::null()).spawn().unwrap();
    let answers = poll(|| StarterClient::connect(&run_dir.join("starter.sock")).ok()?.status().ok());
    second.kill().unwrap();
    second.wait().unwrap();
    assert!(answers.is_some());
}

#[test]
fn worker_ends_when_its_starter_is_killed() {
    let mut proxy = Proxy::start();
    let worker = proxy.wait_for_worker(|_| true).pid;
    proxy.signal(Signal::KILL);
    proxy.wait();
    assert!(poll(|| (!is_alive(worker)).then_some(())).is_some(), "{}", proxy.log());
}

#[test]
fn sigterm_ends_both_with_code_zero_and_leaves_no_socket() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut proxy = Proxy::start();
        let worker = proxy.wait_for_worker(|_| true).pid;
        proxy.signal(signal);
        assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
        assert!(!is_alive(worker));
        assert!(!proxy.run_dir().join("starter.sock").exists());
        assert!(!proxy.run_dir().join("proxy-admin.sock").exists());
    }
}

#[test]
fn worker_does_not_mind_the_signals_of_the_process_group() {
    let mut proxy = Proxy::start();
    let worker = proxy.wait_for_worker(|_| true);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill(worker.pid, signal);
    }
    // The starter answers only after it would have seen the death.
    assert_eq!(proxy.admin("/server_info").0, 200);
    assert_eq!(proxy.wait_for_worker(|_| true).generation, worker.generation);
}

#[test]
fn words_that_are_none_cost_only_their_own_connection() {
    let proxy = Proxy::start();
    let good = proxy.client();
    let bad = proxy.client();
    rustix::net::send(&bad, b"{\"id\":1,\"request\":\"format_disk\"}", rustix::net::SendFlags::empty())
        .unwrap();
    let (mut channel, _) = bad.into_parts();
    assert!(channel.receive::<serde_json::Value>().unwrap().is_none(), "the starter hangs up");
    let mut good = good;
    assert_eq!(good.status().unwrap().restarts, 0);
}

#[test]
fn operators_cannot_speak_as_workers() {
    let proxy = Proxy::start();
    let refused = proxy.client().load_config().unwrap_err();
    assert_eq!(refused.refusal().unwrap().kind, RefusalKind::NotPermitted);
    let refused = proxy.client().upstream_socket("192.0.2.1".parse().unwrap(), 0).unwrap_err();
    assert_eq!(refused.refusal().unwrap().kind, RefusalKind::NotPermitted);
}

#[test]
fn admin_socket_reads_only_and_lists_what_there_is() {
    let proxy = Proxy::start();
    assert_eq!(proxy.admin("/ready"), (503, "PRE_INITIALIZING\n".to_owned()));
    let (status, index) = proxy.admin("/");
    assert_eq!(status, 200);
    for line in index.lines() {
        let path = line.split_whitespace().next().unwrap();
        let (status, _) = proxy.admin(path);
        assert!(status == 200 || path == "/ready", "{path}: {status}");
        assert_eq!(proxy.admin_request("POST", path).0, 405, "{path}");
    }
    assert_eq!(proxy.admin("/quitquitquit").0, 404);
}
