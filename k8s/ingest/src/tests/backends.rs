use mesh_model::NamespacedName;
use mesh_model::service::{BackendState, Protocol};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{notes, service, set, slice};
use crate::{Ingested, ingest};

/// The backends of port 80/TCP as text, terminating ones with a `-` before them.
fn backends(ingested: &Ingested) -> Vec<String> {
    let backends = &ingested.backends[&NamespacedName::new("shop", "web")].ports[&(80, Protocol::Tcp)];
    let sign = |state| if state == BackendState::Active { "" } else { "-" };
    backends.iter().map(|b| format!("{}{}:{}", sign(b.state), b.address, b.port)).collect()
}

fn web() -> Value {
    service(json!({"ports": [{"name": "http", "port": 80, "targetPort": "web"}]}))
}

#[test]
fn backends_of_both_families_come_from_slices_by_port_name() {
    let ingested = ingest(&set([
        web(),
        slice(
            "v4",
            json!({
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.1"], "conditions": {"ready": true}}],
                "ports": [{"name": "http", "port": 8080}, {"name": "admin", "port": 9090}],
            }),
        ),
        slice(
            "v6",
            json!({
                "addressType": "IPv6",
                "endpoints": [{"addresses": ["fd00::1"]}],
                "ports": [{"name": "http", "port": 8081}, {"name": "http", "port": 8082, "protocol": "UDP"}],
            }),
        ),
    ]));
    assert_eq!(backends(&ingested), ["10.0.0.1:8080", "10.0.0.2:8080", "fd00::1:8081"]);
    assert_eq!(notes(&ingested), []);
}

#[test]
fn conditions_decide_who_gets_connections() {
    let endpoint =
        |address: &str, conditions: Value| json!({"addresses": [address], "conditions": conditions});
    let endpoints = json!([
        endpoint("10.0.0.1", json!({})),
        endpoint("10.0.0.2", json!({"ready": false})),
        endpoint("10.0.0.3", json!({"ready": false, "serving": true, "terminating": true})),
        endpoint("10.0.0.4", json!({"ready": false, "serving": false, "terminating": true})),
        endpoint("10.0.0.5", json!({"ready": false, "serving": true})),
    ]);
    let slice = slice(
        "a",
        json!({
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}],
        }),
    );
    assert_eq!(backends(&ingest(&set([web(), slice.clone()]))), ["10.0.0.1:8080", "-10.0.0.3:8080"]);
    let mut every = web();
    every["spec"]["publishNotReadyAddresses"] = json!(true);
    assert_eq!(backends(&ingest(&set([every, slice]))).len(), 5);
}

#[test]
fn an_endpoint_in_two_slices_is_one_backend_and_the_better_state_counts() {
    let part = |name, conditions| {
        slice(
            name,
            json!({
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}],
                "ports": [{"name": "http", "port": 8080}],
            }),
        )
    };
    let leaving = json!({"ready": false, "serving": true, "terminating": true});
    let ingested = ingest(&set([web(), part("a", leaving), part("b", json!({"ready": true}))]));
    assert_eq!(backends(&ingested), ["10.0.0.1:8080"]);
}

#[test]
fn a_port_without_backends_is_there_and_empty() {
    let ingested = ingest(&set([web()]));
    assert_eq!(backends(&ingested), [""; 0]);
    assert_eq!(notes(&ingested), []);
}

#[test]
fn a_port_that_no_slice_has_and_a_slice_of_no_service_are_named() {
    let ports = json!([{"name": "web", "port": 8080}]);
    let ingested =
        ingest(&set([web(), slice("a", json!({"addressType": "IPv4", "endpoints": [], "ports": ports}))]));
    assert_eq!(notes(&ingested), [("spec.ports[0]", "NoSuchEndpointPort")]);
    assert!(ingested.notes[0].message.contains("named \"http\" (they have \"web\")"), "{:?}", ingested.notes);
    let lost = slice("a", json!({"addressType": "IPv4", "endpoints": []}));
    let mut unlabelled = slice("b", json!({"addressType": "IPv4", "endpoints": []}));
    unlabelled["metadata"]["labels"] = json!({});
    let ingested = ingest(&set([lost, unlabelled]));
    let label = "metadata.labels[kubernetes.io/service-name]";
    assert_eq!(notes(&ingested), [(label, "NoService"), (label, "NoService")]);
}

#[test]
fn a_slice_port_without_number_is_the_target_port() {
    let part = slice(
        "a",
        json!({
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": ""}],
        }),
    );
    for (target, expected) in [(json!(8080), "10.0.0.1:8080"), (Value::Null, "10.0.0.1:80")] {
        let mut web = service(json!({"ports": [{"port": 80}]}));
        web["spec"]["ports"][0]["targetPort"] = target;
        assert_eq!(backends(&ingest(&set([web, part.clone()]))), [expected]);
    }
}

proptest! {
    #[test]
    fn backends_are_sorted_and_unique_however_slices_are_cut(
        endpoints in prop::collection::vec((1..9_u8, any::<bool>(), any::<bool>(), 0..4_usize), 0..40),
    ) {
        let mut parts = vec![Vec::new(); 4];
        for (host, ready, terminating, part) in endpoints {
            let conditions = json!({"ready": ready, "serving": true, "terminating": terminating});
            parts[part].push(json!({"addresses": [format!("10.0.0.{host}")], "conditions": conditions}));
        }
        let slices = parts.into_iter().enumerate().map(|(index, endpoints)| {
            let ports = json!([{"name": "http", "port": 8080}]);
            slice(&format!("s{index}"), json!({"addressType": "IPv4", "endpoints": endpoints, "ports": ports}))
        });
        let ingested = ingest(&set(std::iter::once(web()).chain(slices)));
        let found = &ingested.backends[&NamespacedName::new("shop", "web")].ports[&(80, Protocol::Tcp)];
        prop_assert!(found.is_sorted_by(|a, b| (a.address, a.port) < (b.address, b.port)));
    }
}
