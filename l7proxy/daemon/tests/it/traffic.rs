use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use mesh_l7proxy_wire::WorkerState;
use rustix::process::Signal;
use serde_json::Value;

use crate::backend::Backend;
use crate::config::{ControlPlane, free_address, site};
use crate::harness::{Proxy, kill, poll, proc_status};
use crate::http::{Connection, get};

fn body(address: std::net::SocketAddr) -> String {
    get(address, "/").map_or_else(|error| error.to_string(), |answer| answer.body)
}

#[test]
fn what_the_xds_server_says_serves() {
    let proxy = Proxy::start();
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let (backend, listen) = (Backend::start("hello"), free_address());
    control_plane.publish(&site("web", listen, backend.address));
    assert_eq!(control_plane.rejections(), []);

    assert_eq!(body(listen), "hello");
    assert_eq!(proxy.admin("/ready"), (200, "LIVE\n".to_owned()));
    let info: Value = serde_json::from_str(&proxy.admin("/server_info").1).unwrap();
    assert_eq!(info["xds"]["connected"], true);
    assert!(proxy.admin("/config_dump").1.contains("\"web\""));
    assert!(proxy.admin("/clusters").1.contains(&backend.address.port().to_string()));
    assert!(proxy.admin("/listeners").1.contains(&listen.port().to_string()));
    let metrics = proxy.admin("/stats/prometheus").1;
    assert!(
        metrics.contains("envoy_control_plane_connected_state 1") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    assert!(poll(|| proxy.access_log().contains("GET").then_some(())).is_some(), "{}", proxy.access_log());
}

#[test]
fn connections_made_while_no_worker_lives_are_answered() {
    let mut proxy = Proxy::start();
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let (backend, listen) = (Backend::start("back again"), free_address());
    control_plane.publish(&site("web", listen, backend.address));
    assert_eq!(body(listen), "back again");
    let worker = proxy.wait_for_worker(|_| true);
    // The configuration is stored a moment after the change.
    assert!(poll(|| proxy.status().stored_config_bytes.filter(|bytes| *bytes > 0)).is_some());

    // A starter that stands still cannot start another worker.
    proxy.signal(Signal::STOP);
    let stopped = || proc_status(proxy.pid(), "State").filter(|state| state.starts_with('T'));
    assert!(poll(stopped).is_some());
    kill(worker.pid, Signal::KILL);
    assert!(poll(|| (!crate::harness::is_alive(worker.pid)).then_some(())).is_some());
    let mut waiting: Vec<Connection> = (0..20).map(|_| Connection::open(listen).unwrap()).collect();
    for connection in &mut waiting {
        connection.send("/").unwrap();
    }
    proxy.signal(Signal::CONT);
    let awake = Instant::now();
    for connection in &mut waiting {
        assert_eq!(connection.receive().unwrap().body, "back again");
    }
    assert!(awake.elapsed() < Duration::from_secs(2), "{:?}", awake.elapsed());
}

#[test]
fn last_good_configuration_serves_without_the_xds_server() {
    let mut proxy = Proxy::start();
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let (backend, listen) = (Backend::start("from memory"), free_address());
    control_plane.publish(&site("web", listen, backend.address));
    assert!(poll(|| proxy.status().stored_config_bytes.filter(|bytes| *bytes > 0)).is_some());
    drop(control_plane);
    assert_eq!(body(listen), "from memory");
    let first = proxy.wait_for_worker(|_| true);
    kill(first.pid, Signal::KILL);
    assert_eq!(body(listen), "from memory");
    proxy.wait_for_worker(|worker| worker.pid != first.pid && worker.state == WorkerState::Serving);
    assert_eq!(proxy.admin("/ready").0, 200);
}

#[test]
fn a_table_that_is_refused_holds_up_no_other_listener_when_the_worker_is_replaced() {
    let mut proxy = Proxy::start();
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let (backend, good, bad) = (Backend::start("good"), free_address(), free_address());
    let mut resources = site("good", good, backend.address);
    resources.extend(site("bad", bad, backend.address));
    let table = resources.iter_mut().rfind(|resource| resource["virtual_hosts"].is_array()).unwrap();
    table["virtual_hosts"][0]["routes"][0]["match"] = serde_json::json!({ "safe_regex": { "regex": "(" } });
    control_plane.publish(&resources);
    assert_eq!(control_plane.rejections().len(), 1, "{:?}", control_plane.rejections());
    assert_eq!((body(good).as_str(), get(bad, "/").unwrap().status), ("good", 404));
    assert!(poll(|| proxy.status().stored_config_bytes.filter(|bytes| *bytes > 0)).is_some());

    let at_once = |what: &str| {
        let asked = Instant::now();
        assert_eq!(body(good), "good", "{what}");
        assert!(asked.elapsed() < Duration::from_secs(2), "{what}: {:?}", asked.elapsed());
    };
    let serving =
        |proxy: &mut Proxy| proxy.wait_for_worker(|worker| worker.state == WorkerState::Serving).pid;
    let first = serving(&mut proxy);
    kill(first, Signal::KILL);
    at_once("killed");
    let second = proxy.wait_for_worker(|worker| worker.pid != first && worker.state == WorkerState::Serving);
    proxy.client().upgrade(std::path::Path::new(crate::harness::L7PROXY), Duration::from_secs(20)).unwrap();
    at_once("upgraded");
    assert_eq!(get(bad, "/").unwrap().status, 404, "nobody waits for what was refused");

    // Without a server nobody knows that the table does not come: its own listener waits, no other.
    drop(control_plane);
    let third = serving(&mut proxy);
    assert_ne!(third, second.pid);
    kill(third, Signal::KILL);
    at_once("killed without a server");
}

#[test]
fn listener_removed_while_no_worker_lived_is_gone_afterwards() {
    let mut proxy = Proxy::start();
    let (backend, stays, goes) = (Backend::start("here"), free_address(), free_address());
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let stay = site("stays", stays, backend.address);
    let both: Vec<Value> = stay.iter().cloned().chain(site("goes", goes, backend.address)).collect();
    control_plane.publish(&both);
    assert_eq!((body(stays), body(goes)), ("here".to_owned(), "here".to_owned()));
    assert!(poll(|| proxy.status().stored_config_bytes.filter(|bytes| *bytes > 0)).is_some());
    drop(control_plane);

    let first = proxy.wait_for_worker(|_| true);
    kill(first.pid, Signal::KILL);
    proxy.wait_for_worker(|worker| worker.pid != first.pid && worker.state == WorkerState::Serving);
    assert_eq!(body(goes), "here", "nobody said otherwise yet");
    let control_plane = ControlPlane::start(&proxy.run_dir());
    control_plane.publish(&stay);
    assert!(poll(|| TcpStream::connect(goes).is_err().then_some(())).is_some(), "{}", proxy.log());
    assert_eq!(body(stays), "here");
}

#[test]
fn port_in_use_refuses_one_listener_and_it_serves_once_the_port_is_free() {
    let proxy = Proxy::start();
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let backend = Backend::start("served");
    let occupant = TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, free) = (occupant.local_addr().unwrap(), free_address());
    let mut resources = site("blocked", taken, backend.address);
    resources.extend(site("fine", free, backend.address));
    control_plane.publish(&resources);

    let rejections = control_plane.rejections();
    assert_eq!(rejections.len(), 1, "{rejections:?}");
    assert_eq!(rejections[0].name, "blocked");
    let message = &rejections[0].nack.message;
    assert!(message.contains(&taken.to_string()) && message.contains("another process"), "{message}");
    assert_eq!(body(free), "served");
    assert!(proxy.admin("/listeners").1.contains("another process"));

    drop(occupant);
    assert!(poll(|| (body(taken) == "served").then_some(())).is_some(), "{}", proxy.log());
    let none = poll(|| control_plane.rejections().is_empty().then_some(()));
    assert!(none.is_some(), "the server hears of it: {:?}", control_plane.rejections());
}

#[test]
fn listener_that_cannot_move_stays_where_it_is_and_the_server_may_take_the_move_back() {
    let proxy = Proxy::start();
    let backend = Backend::start("served");
    let occupant = TcpListener::bind("127.0.0.1:0").unwrap();
    let (first, taken) = (free_address(), occupant.local_addr().unwrap());
    let control_plane = ControlPlane::start(&proxy.run_dir());
    control_plane.publish(&site("web", first, backend.address));
    assert_eq!(body(first), "served");
    control_plane.publish(&site("web", taken, backend.address));
    assert_eq!(control_plane.rejections().len(), 1, "{:?}", control_plane.rejections());
    assert_eq!(body(first), "served", "it is not closed before the new socket is open");

    // The next worker finds it there.
    let pid = proxy.client().upgrade(std::path::Path::new(crate::harness::L7PROXY), Duration::from_secs(20));
    let old = poll(|| (proxy.status().workers.len() == 1).then_some(()));
    assert!(pid.is_ok() && old.is_some(), "{pid:?}");
    assert_eq!(body(first), "served");

    // Another server still wants the move, and has to hear as well that it failed.
    drop(control_plane);
    let control_plane = ControlPlane::start(&proxy.run_dir());
    control_plane.publish(&site("web", taken, backend.address));
    assert_eq!(control_plane.rejections().len(), 1, "{:?}", control_plane.rejections());
    // The next one takes it back.
    drop(control_plane);
    let control_plane = ControlPlane::start(&proxy.run_dir());
    control_plane.publish(&site("web", first, backend.address));
    assert_eq!(control_plane.rejections(), []);
    assert_eq!(body(first), "served");

    control_plane.publish(&site("web", taken, backend.address));
    assert_eq!(control_plane.rejections().len(), 1);
    drop(occupant);
    assert!(poll(|| (body(taken) == "served").then_some(())).is_some(), "{}", proxy.log());
    assert!(
        poll(|| TcpStream::connect(first).is_err().then_some(())).is_some(),
        "the old one is closed then"
    );
    let none = poll(|| control_plane.rejections().is_empty().then_some(()));
    assert!(none.is_some(), "the server hears of it: {:?}", control_plane.rejections());
}

#[test]
fn new_starter_serves_where_one_was_killed() {
    let mut proxy = Proxy::start();
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let (backend, listen) = (Backend::start("another"), free_address());
    control_plane.publish(&site("web", listen, backend.address));
    let mut in_flight = Connection::open(listen).unwrap();
    in_flight.send("/held").unwrap();
    assert!(poll(|| (backend.held() == 1).then_some(())).is_some());

    proxy.signal(Signal::KILL);
    proxy.start_again();
    assert!(poll(|| (body(listen) == "another").then_some(())).is_some(), "{}", proxy.log());
    backend.release();
    assert_eq!(in_flight.receive().unwrap().body, "another", "the orphan finishes its requests");
}

#[test]
fn removed_listener_closes_its_port_and_a_changed_one_moves() {
    let proxy = Proxy::start();
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let backend = Backend::start("moving");
    let (first, second) = (free_address(), free_address());
    control_plane.publish(&site("web", first, backend.address));
    assert_eq!(body(first), "moving");
    control_plane.publish(&site("web", second, backend.address));
    assert_eq!(body(second), "moving");
    assert!(TcpStream::connect(first).is_err());
    assert_eq!(proxy.client().listeners().unwrap().len(), 1);
    // The new name comes before the old one goes, and both want the address.
    control_plane.publish(&site("renamed", second, backend.address));
    assert_eq!(body(second), "moving");
    assert_eq!(proxy.client().listeners().unwrap()[0].info.spec.name, "renamed");
    let none = poll(|| control_plane.rejections().is_empty().then_some(()));
    assert!(
        none.is_some(),
        "it was refused only as long as it had to wait: {:?}",
        control_plane.rejections()
    );
    control_plane.publish(&[]);
    assert!(TcpStream::connect(second).is_err());
    assert!(proxy.client().listeners().unwrap().is_empty());
}

#[test]
fn sigterm_lets_requests_finish_and_refuses_new_connections() {
    let mut proxy = Proxy::start();
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let (backend, listen) = (Backend::start("finished"), free_address());
    control_plane.publish(&site("web", listen, backend.address));
    let mut in_flight = Connection::open(listen).unwrap();
    in_flight.send("/held").unwrap();
    assert!(poll(|| (backend.held() == 1).then_some(())).is_some());

    proxy.signal(Signal::TERM);
    assert!(poll(|| TcpStream::connect(listen).is_err().then_some(())).is_some(), "{}", proxy.log());
    assert_eq!(proxy.status().workers.len(), 1, "it waits for the request");
    backend.release();
    assert_eq!(in_flight.receive().unwrap().body, "finished");
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
}

#[test]
fn second_sigterm_ends_it_at_once() {
    let mut proxy = Proxy::start();
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let (backend, listen) = (Backend::start("never"), free_address());
    control_plane.publish(&site("web", listen, backend.address));
    let mut in_flight = Connection::open(listen).unwrap();
    in_flight.send("/held").unwrap();
    assert!(poll(|| (backend.held() == 1).then_some(())).is_some());

    proxy.signal(Signal::TERM);
    assert!(poll(|| TcpStream::connect(listen).is_err().then_some(())).is_some());
    let asked = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(5), "the drain would take 10 s");
    assert!(in_flight.receive().is_err());
}
