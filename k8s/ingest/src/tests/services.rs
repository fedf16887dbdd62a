use mesh_model::NamespacedName;
use mesh_model::service::{
    AppProtocol, ClientAddress, L7Balance, Protocol, Service, ServiceKind, TrafficPolicy,
};
use serde_json::{Value, json};

use super::{notes, service, set};
use crate::{Ingested, ingest};

fn read(spec: Value) -> (Service, Ingested) {
    read_object(service(spec))
}

fn read_object(object: Value) -> (Service, Ingested) {
    let ingested = ingest(&set([object]));
    let service = (*ingested.services[&NamespacedName::new("shop", "web")]).clone();
    (service, ingested)
}

#[test]
fn each_type_of_service_has_the_addresses_it_should() {
    for (spec, kind, addresses) in [
        (json!({"clusterIPs": ["10.96.0.1", "fd00::1"]}), ServiceKind::ClusterIp, 2),
        (json!({"clusterIP": "10.96.0.1"}), ServiceKind::ClusterIp, 1),
        (json!({"clusterIP": "None"}), ServiceKind::Headless, 0),
        (json!({"type": "NodePort", "clusterIP": "10.96.0.1"}), ServiceKind::NodePort, 1),
        (json!({"type": "LoadBalancer", "clusterIP": "10.96.0.1"}), ServiceKind::LoadBalancer, 1),
        (json!({"type": "ExternalName", "externalName": "a.b"}), ServiceKind::ExternalName("a.b".into()), 0),
    ] {
        let (service, ingested) = read(spec.clone());
        assert_eq!((&service.kind, service.cluster_ips.len()), (&kind, addresses), "{spec}");
        assert_eq!(notes(&ingested), []);
    }
}

#[test]
fn ports_are_read_with_protocol_and_what_is_spoken_on_them() {
    let (service, ingested) = read(json!({"ports": [
        {"name": "web", "port": 80, "nodePort": 30080},
        {"name": "rpc", "port": 81, "appProtocol": "kubernetes.io/h2c"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53},
        {"name": "tls", "port": 443, "appProtocol": "https"},
        {"name": "twice", "port": 80},
        {"name": "odd", "port": 82, "protocol": "ICMP"},
    ]}));
    let ports: Vec<_> =
        service.ports.iter().map(|p| (p.name.as_str(), p.port, p.protocol, p.app_protocol)).collect();
    assert_eq!(
        ports,
        [
            ("web", 80, Protocol::Tcp, AppProtocol::Http),
            ("rpc", 81, Protocol::Tcp, AppProtocol::H2c),
            ("dns", 53, Protocol::Udp, AppProtocol::Http),
            ("dns-tcp", 53, Protocol::Tcp, AppProtocol::Http),
            ("tls", 443, Protocol::Tcp, AppProtocol::Http),
        ]
    );
    assert_eq!(service.ports[0].node_port, Some(30080));
    assert_eq!(
        notes(&ingested),
        [
            ("spec.ports[4].appProtocol", "UnsupportedProtocol"),
            ("spec.ports[5]", "DuplicatePort"),
            ("spec.ports[6]", "InvalidPort"),
        ]
    );
}

#[test]
fn bad_addresses_are_left_out_and_named() {
    let (service, ingested) = read(json!({
        "clusterIPs": ["10.96.0.1", "x"],
        "externalIPs": ["192.0.2.1", "192.0.2.1", "y"],
        "sessionAffinity": "ClientIP",
    }));
    assert_eq!((service.cluster_ips.len(), service.external_ips.len()), (1, 1));
    assert_eq!(
        notes(&ingested),
        [
            ("spec.clusterIPs[1]", "InvalidAddress"),
            ("spec.externalIPs[2]", "InvalidAddress"),
            ("spec.sessionAffinity", "Unsupported"),
        ]
    );
}

#[test]
fn addresses_given_by_a_load_balancer_are_addresses_from_outside() {
    let mut object = service(json!({"type": "LoadBalancer"}));
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"hostname": "a.b"}]}});
    assert_eq!(read_object(object).0.external_ips, ["192.0.2.9".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn annotations_choose_client_address_and_balancing() {
    let (service, ingested) = read(json!({}));
    assert_eq!((service.client_address, service.l7_balance), (ClientAddress::Keep, L7Balance::RoundRobin));
    assert_eq!(notes(&ingested), []);
    let mut object = super::service(json!({}));
    object["metadata"]["annotations"] = json!({
        "service.millrace.io/client-address": "node",
        "service.cilium.io/lb-l7-algorithm": "least_request",
    });
    let (service, _) = read_object(object.clone());
    assert_eq!((service.client_address, service.l7_balance), (ClientAddress::Node, L7Balance::LeastRequest));
    object["metadata"]["annotations"]["service.millrace.io/client-address"] = json!("yes");
    let (service, ingested) = read_object(object);
    assert_eq!(service.client_address, ClientAddress::Keep);
    assert_eq!(
        notes(&ingested),
        [("metadata.annotations[service.millrace.io/client-address]", "InvalidAnnotation")]
    );
}

#[test]
fn traffic_policies_are_read_and_one_that_is_none_is_named() {
    let (service, ingested) =
        read(json!({"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}));
    assert_eq!(
        (service.external_traffic, service.internal_traffic),
        (TrafficPolicy::Local, TrafficPolicy::Local)
    );
    assert_eq!(notes(&ingested), []);
    let (service, ingested) = read(json!({"externalTrafficPolicy": "Near"}));
    assert_eq!(service.external_traffic, TrafficPolicy::Cluster);
    assert_eq!(notes(&ingested).len(), 1);
}
