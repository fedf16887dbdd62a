use std::net::{IpAddr, Ipv4Addr, TcpListener};

use mesh_l7proxy_wire::RefusalKind;
use rustix::net::getsockname;
use rustix::thread::{CapabilitySet, capabilities};

use super::UpstreamSockets;
use crate::args::PortRange;

const RANGE: PortRange = PortRange { low: 23100, high: 23131 };

fn may_be_transparent(test: &str) -> bool {
    let effective = capabilities(None).unwrap().effective;
    let may = effective.intersects(CapabilitySet::NET_RAW | CapabilitySet::NET_ADMIN);
    if !may {
        eprintln!("SKIPPED: {test}: transparent sockets need CAP_NET_RAW");
    }
    may
}

#[test]
fn source_is_an_address_the_node_does_not_own_and_a_port_of_the_range() {
    if !may_be_transparent("source_is_an_address_the_node_does_not_own_and_a_port_of_the_range") {
        return;
    }
    let mut sockets = UpstreamSockets::new(RANGE);
    for local in ["192.0.2.7", "2001:db8::7"] {
        let local: IpAddr = local.parse().unwrap();
        let socket = sockets.open(local, 0).unwrap();
        let bound = std::net::SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
        assert_eq!(bound.ip(), local);
        assert!((RANGE.low..=RANGE.high).contains(&bound.port()), "{bound}");
    }
}

#[test]
fn ports_are_shared_once_all_are_taken() {
    if !may_be_transparent("ports_are_shared_once_all_are_taken") {
        return;
    }
    let mut sockets = UpstreamSockets::new(PortRange { low: 23200, high: 23203 });
    let local = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 8));
    let all: Vec<_> = (0..12).map(|_| sockets.open(local, 0).unwrap()).collect();
    assert_eq!(all.len(), 12);
}

#[test]
fn port_that_somebody_listens_on_is_never_shared() {
    if !may_be_transparent("port_that_somebody_listens_on_is_never_shared") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut sockets = UpstreamSockets::new(PortRange { low: port, high: port });
    let refusal = sockets.open(IpAddr::V4(Ipv4Addr::LOCALHOST), 0).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::AddressInUse);
    assert!(refusal.message.contains("--upstream-ports"), "{refusal}");
}

#[test]
fn address_that_no_client_has_is_refused() {
    let mut sockets = UpstreamSockets::new(RANGE);
    for local in ["0.0.0.0", "::", "224.0.0.1", "ff02::1"] {
        assert_eq!(
            sockets.open(local.parse().unwrap(), 0).unwrap_err().kind,
            RefusalKind::Invalid,
            "{local}"
        );
    }
}
