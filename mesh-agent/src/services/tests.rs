use mesh_ebpf_abi::{Be16, Protocol, ServiceKey};
use serde_json::json;

use super::{ServiceIds, ServiceRow, rows};
use crate::fixture::quickstart;

fn find<'a>(rows: &'a [ServiceRow], address: &str, port: u16) -> &'a ServiceRow {
    let address: std::net::IpAddr = address.parse().expect("an address");
    let found = rows.iter().find(|row| row.frontend.address == address && row.frontend.port == port);
    found.unwrap_or_else(|| panic!("{address}:{port} is not in {rows:#?}"))
}

#[test]
fn a_service_without_a_route_is_balanced_over_its_backends() {
    let rows = rows(&quickstart(), &ServiceIds::new());
    let plain = find(&rows, "10.96.0.30", 80);
    assert_eq!((plain.kind, plain.proxy.is_none()), ("ClusterIP", true));
    let backends: Vec<String> = plain.backends.iter().map(|b| format!("{}:{}", b.address, b.port)).collect();
    assert_eq!(backends, ["10.244.1.11:8080", "10.244.1.12:8080", "10.244.1.13:8080"]);
    let v6 = find(&rows, "fd00:10:96::30", 80);
    assert!(v6.backends.iter().all(|backend| backend.address.is_ipv6()), "of its own family");
}

#[test]
fn a_service_with_a_route_names_the_proxys_listener_and_its_backends() {
    let rows = rows(&quickstart(), &ServiceIds::new());
    let catalog = find(&rows, "10.96.0.20", 80);
    let proxy = catalog.proxy.as_ref().expect("the proxy takes it");
    assert_eq!((proxy.listener.as_str(), proxy.owner.as_str()), ("10.96.0.20:80", "service/shop/catalog/80"));
    assert_eq!(catalog.backends.len(), 1);
}

#[test]
fn an_address_of_an_ingress_is_like_one_of_a_load_balancer() {
    let rows = rows(&quickstart(), &ServiceIds::new());
    let shown = serde_json::to_value(find(&rows, "192.0.2.1", 80)).expect("plain data");
    assert_eq!(
        shown,
        json!({
            "id": null,
            "frontend": {"address": "192.0.2.1", "port": 80, "protocol": "TCP"},
            "type": "LoadBalancer",
            "service": null,
            "proxy": {"listener": "192.0.2.1:80", "owner": "ingress/shop/shop/80"},
            "backends": [],
        })
    );
}

#[test]
fn rows_of_the_kernel_come_first_by_their_identifiers() {
    let address: std::net::IpAddr = [10, 96, 0, 30].into();
    let key = ServiceKey::new(address.into(), Be16::new(80), Protocol::Tcp);
    let rows = rows(&quickstart(), &ServiceIds::from([(key, 9)]));
    assert_eq!((rows[0].id, rows[0].frontend.address), (Some(9), address));
    assert!(rows[1..].iter().all(|row| row.id.is_none()));
}
