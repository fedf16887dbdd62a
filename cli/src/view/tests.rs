use serde_json::json;

use super::{health, objects};
use crate::args::Kind;

#[test]
fn an_ingress_row_has_its_hosts_address_and_what_is_wrong() {
    let object = json!({
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {"ingressClassName": "cilium", "rules": [{"host": "a.example"}], "tls": [{}]},
        "status": {
            "loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]},
            "conditions": [{"type": "ResolvedRefs", "status": "False", "reason": "ServiceNotFound", "message": "no Service x"}],
        },
    });
    let shown = objects(Kind::Ingress, &[object]).to_string();
    for expected in ["a.example", "192.0.2.1", "80,443", "ServiceNotFound: no Service x"] {
        assert!(shown.contains(expected), "{shown}");
    }
}

#[test]
fn a_gateway_row_counts_the_routes_of_each_listener() {
    let object = json!({
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {"gatewayClassName": "millrace"},
        "status": {
            "addresses": [{"value": "192.0.2.130"}],
            "conditions": [{"type": "Programmed", "status": "True"}],
            "listeners": [{"name": "http", "attachedRoutes": 2}],
        },
    });
    let shown = objects(Kind::Gateway, &[object]).to_string();
    assert!(shown.contains("http(2)") && shown.contains("True"), "{shown}");
}

#[test]
fn a_route_row_tells_the_reason_of_a_refusal() {
    let refused = json!({"parentRef": {"kind": "Gateway", "name": "web"}, "conditions": [
        {"type": "Accepted", "status": "False", "reason": "NoMatchingListenerHostname"}]});
    let object = json!({"metadata": {}, "spec": {}, "status": {"parents": [refused]}});
    let shown = objects(Kind::HttpRoute, &[object]).to_string();
    assert!(shown.contains("False: NoMatchingListenerHostname"), "{shown}");
}

#[test]
fn problems_follow_the_parts() {
    let status =
        json!({"parts": [{"name": "proxy", "state": "ok", "detail": ""}], "problems": ["a.yaml: bad"]});
    assert!(health(&status).contains("- a.yaml: bad"));
}
