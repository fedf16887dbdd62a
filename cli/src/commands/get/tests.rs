use serde_json::json;

use super::table;
use crate::args::{ColorChoice, Format, Kind};
use crate::output::Output;

fn shown(kind: Kind, object: serde_json::Value) -> String {
    table(&Output::new(Format::Table, ColorChoice::Never), kind, &[&object])
}

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
    assert_eq!(
        shown(Kind::Ingress, object),
        "NAMESPACE  NAME  CLASS   HOSTS      ADDRESS    PORTS   STATE\n\
         default    web   cilium  a.example  192.0.2.1  80,443  ServiceNotFound: no Service x"
    );
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
    let shown = shown(Kind::Gateway, object);
    assert!(shown.ends_with("default    web   millrace  192.0.2.130  True        http(2)"), "{shown}");
}

#[test]
fn a_route_row_tells_the_reason_of_a_refusal() {
    let refused = json!({"parentRef": {"kind": "Gateway", "name": "web"}, "conditions": [
        {"type": "Accepted", "status": "False", "reason": "NoMatchingListenerHostname"}]});
    let object = json!({"metadata": {}, "spec": {}, "status": {"parents": [refused]}});
    let shown = shown(Kind::HttpRoute, object);
    assert!(shown.contains("False: NoMatchingListenerHostname"), "{shown}");
}

#[test]
fn an_endpoint_slice_row_names_its_service_and_its_addresses() {
    let object = json!({
        "metadata": {"namespace": "shop", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}],
    });
    let shown = shown(Kind::EndpointSlice, object);
    assert!(
        shown.ends_with("shop       web-1  web      IPv4         8080/TCP  10.0.0.1,10.0.0.2"),
        "{shown}"
    );
}
