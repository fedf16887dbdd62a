//! Statuses written back, by one process at a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mesh_k8s_reflect::{ApiServer as Access, Cause, Config, Lease, LeaseConfig, StatusWriter};
use mesh_model::{NamespacedName, ObjectKey};
use mesh_testkit::api_server::{ApiServer, Fault};
use serde_json::{Value, json};
use tokio::time::{sleep_until, timeout};

use crate::fixture::{CORE, Followed, INGRESSES, config};

const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";

fn access(server: &ApiServer) -> Access {
    Access { kubeconfig: None, urls: vec![server.url().parse().unwrap()] }
}

fn ingress(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
    })
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("networking.k8s.io", "Ingress", NamespacedName::new("shop", name))
}

fn address(ip: &str) -> Value {
    json!({"loadBalancer": {"ingress": [{"ip": ip}]}})
}

fn desired(names: &[&str]) -> BTreeMap<ObjectKey, Value> {
    names.iter().map(|name| (key(name), address("192.0.2.1"))).collect()
}

async fn world(names: &[&str]) -> (ApiServer, Followed, StatusWriter) {
    let server = ApiServer::start(&CORE).unwrap();
    names.iter().for_each(|name| server.put(INGRESSES, ingress(name)));
    let mut followed = Followed::start(Config { keep_status: true, ..config(&server) }).await;
    followed.read().await;
    let writer = StatusWriter::new(access(&server), Vec::new()).await.unwrap();
    (server, followed, writer)
}

#[tokio::test]
async fn a_status_is_written_once_and_then_left_alone() {
    let (server, mut followed, mut writer) = world(&["a", "b"]).await;
    let state = followed.state.borrow().clone();
    assert_eq!(writer.write(&state, &desired(&["a", "b"]), || true).await.count, 2);
    // The watch has not brought it yet: the same again would be a second write of the same.
    assert_eq!(writer.write(&state, &desired(&["a", "b"]), || true).await.count, 0);
    let state = followed.until("both are there", |state| state.addresses.len() == 2).await;
    assert_eq!(writer.write(&state, &desired(&["a", "b"]), || true).await.count, 0);
    assert_eq!(server.count("PATCH"), 2);
    assert_eq!(server.get(INGRESSES, "shop", "a").unwrap()["status"], address("192.0.2.1"));
    assert_eq!(server.get(INGRESSES, "shop", "a").unwrap()["metadata"]["generation"], 1);
}

#[tokio::test]
async fn what_somebody_else_wrote_meanwhile_is_not_overwritten_unseen() {
    let (server, mut followed, mut writer) = world(&["a"]).await;
    let old = followed.state.borrow().clone();
    let mut theirs = ingress("a");
    theirs["status"] = address("198.51.100.9");
    server.put(INGRESSES, theirs);
    let written = writer.write(&old, &desired(&["a"]), || true).await;
    assert_eq!((written.count, written.failed.len()), (0, 0));
    assert_eq!(server.get(INGRESSES, "shop", "a").unwrap()["status"], address("198.51.100.9"));
    let state = followed.until("theirs is seen", |state| state.addresses.len() == 1).await;
    assert_eq!(writer.write(&state, &desired(&["a"]), || true).await.count, 1);
}

#[tokio::test]
async fn a_status_that_is_refused_holds_up_no_other_and_is_not_tried_in_a_loop() {
    let (server, followed, mut writer) = world(&["a", "b"]).await;
    server.fail("PATCH /apis/networking.k8s.io/v1/namespaces/shop/ingresses/a", Fault::Status(422, 0), 9);
    let state = followed.state.borrow().clone();
    let written = writer.write(&state, &desired(&["a", "b"]), || true).await;
    assert_eq!(written.count, 1);
    let [refused] = &written.failed[..] else { panic!("{written:?}") };
    assert_eq!((refused.object.clone(), refused.failure.cause), (key("a"), Cause::Refused));
    writer.write(&state, &desired(&["a", "b"]), || true).await;
    assert_eq!(server.count("PATCH"), 2);
    writer.retry();
    server.heal();
    assert_eq!(writer.write(&state, &desired(&["a", "b"]), || true).await.count, 1);
}

#[tokio::test]
async fn who_may_no_longer_write_stops_within_a_round() {
    let (server, followed, mut writer) = world(&["a", "b", "c"]).await;
    let state = followed.state.borrow().clone();
    let written = writer.write(&state, &desired(&["a", "b", "c"]), || server.count("PATCH") < 2).await;
    assert_eq!((written.count, server.count("PATCH")), (2, 2));
}

#[tokio::test]
async fn while_the_server_is_away_nothing_is_given_up() {
    let (mut server, followed, mut writer) = world(&["a"]).await;
    let state = followed.state.borrow().clone();
    server.stop();
    let written = writer.write(&state, &desired(&["a"]), || true).await;
    assert_eq!(written.failed[0].failure.cause, Cause::Unreachable);
    server.start_again().unwrap();
    sleep_until(written.again.expect("it is tried again").into()).await;
    assert_eq!(writer.write(&state, &desired(&["a"]), || true).await.count, 1);
}

#[tokio::test]
async fn one_object_whose_writes_the_server_fails_holds_up_no_other() {
    let (server, followed, mut writer) = world(&["a", "b", "c"]).await;
    let one = "PATCH /apis/networking.k8s.io/v1/namespaces/shop/ingresses/a";
    server.fail(one, Fault::Status(500, 0), usize::MAX);
    let state = followed.state.borrow().clone();
    let names = ["a", "b", "c"];
    let written = writer.write(&state, &desired(&names), || true).await;
    assert_eq!((written.count, written.failed.len()), (2, 1));
    // It waits longer each time, and nobody else is asked for meanwhile.
    assert_eq!(writer.write(&state, &desired(&names), || true).await.failed.len(), 0);
    let first = written.again.expect("it is tried again");
    sleep_until(first.into()).await;
    let again = writer.write(&state, &desired(&names), || true).await;
    assert_eq!((again.failed.len(), server.count(one)), (1, 2));
    server.heal();
    sleep_until(again.again.expect("it is tried again").into()).await;
    assert_eq!(writer.write(&state, &desired(&names), || true).await.count, 1);
}

#[tokio::test]
async fn a_server_that_fails_every_write_is_not_asked_for_all_of_them() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let (server, followed, mut writer) = world(&names).await;
    server.fail("PATCH", Fault::Status(503, 1), usize::MAX);
    let state = followed.state.borrow().clone();
    let began = Instant::now();
    let written = writer.write(&state, &desired(&names), || true).await;
    assert_eq!((written.failed.len(), server.count("PATCH")), (3, 3));
    let again = written.again.expect("they are tried again");
    assert!(again >= began + Duration::from_secs(1), "sooner than the server asks for");
}

fn lease(identity: &str) -> LeaseConfig {
    LeaseConfig {
        namespace: "kube-system".to_owned(),
        name: "millrace-operator".to_owned(),
        identity: identity.to_owned(),
        duration: Duration::from_secs(1),
        renew_within: Duration::from_millis(700),
        retry: Duration::from_millis(20),
    }
}

async fn becomes(lease: &Lease, leading: bool) {
    let mut state = lease.leading();
    let waiting = state.wait_for(|now| *now == leading);
    timeout(Duration::from_secs(10), waiting).await.expect("the lease changes hands").unwrap();
}

fn holder(server: &ApiServer) -> Value {
    server.get(LEASES, "kube-system", "millrace-operator").unwrap()["spec"]["holderIdentity"].clone()
}

#[tokio::test]
async fn one_leads_and_the_next_one_follows_at_once_when_it_is_given_back() {
    let server = ApiServer::start(&[LEASES]).unwrap();
    let first = Lease::start(access(&server), lease("first")).await.unwrap();
    becomes(&first, true).await;
    let second = Lease::start(access(&server), lease("second")).await.unwrap();
    let renewals = server.count("PUT");
    crate::fixture::asked(&server, "PUT", renewals + 5).await;
    assert!(!*second.leading().borrow());
    first.release().await;
    becomes(&second, true).await;
    assert_eq!(holder(&server), "second");
}

#[tokio::test]
async fn a_lease_whose_holder_died_is_taken_after_its_duration() {
    let server = ApiServer::start(&[LEASES]).unwrap();
    let first = Lease::start(access(&server), lease("first")).await.unwrap();
    becomes(&first, true).await;
    let second = Lease::start(access(&server), lease("second")).await.unwrap();
    // Dropped, not released: as when the process dies.
    drop(first);
    assert_eq!(holder(&server), "first");
    becomes(&second, true).await;
}

#[tokio::test]
async fn who_cannot_renew_stops_leading_before_another_may_begin() {
    let mut server = ApiServer::start(&[LEASES]).unwrap();
    let first = Lease::start(access(&server), lease("first")).await.unwrap();
    becomes(&first, true).await;
    server.stop();
    becomes(&first, false).await;
    server.start_again().unwrap();
    becomes(&first, true).await;
}

#[tokio::test]
async fn who_waits_for_a_slow_server_stops_leading_in_time() {
    let server = ApiServer::start(&[LEASES]).unwrap();
    let first = Lease::start(access(&server), lease("first")).await.unwrap();
    becomes(&first, true).await;
    // Each answer comes before its own limit, and the attempt after the Lease's.
    server.fail("GET", Fault::Slow(Duration::from_millis(340)), usize::MAX);
    server.fail("PUT", Fault::Slow(Duration::from_millis(1500)), usize::MAX);
    let renewals = server.count("PUT");
    crate::fixture::asked(&server, "GET", server.count("GET") + 2).await;
    let slow = Instant::now();
    becomes(&first, false).await;
    // 700 ms after the last renewal, which was at most one look before; and not after the answers, 1,840 ms.
    assert!(slow.elapsed() < Duration::from_millis(1200), "{:?}, {renewals} renewals", slow.elapsed());
}
