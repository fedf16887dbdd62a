use std::net::{SocketAddr, TcpListener, TcpStream};

use mesh_l7proxy_wire::{ListenSpec, RefusalKind};

use super::ListenerTable;

fn spec(name: &str, address: &str, sockets: u16) -> ListenSpec {
    ListenSpec {
        name: name.to_owned(),
        address: address.parse().unwrap(),
        transparent: false,
        sockets,
        backlog: 64,
    }
}

#[test]
fn asking_twice_gives_the_same_socket() {
    let mut table = ListenerTable::default();
    let first = table.open(spec("web", "127.0.0.1:0", 1)).unwrap().info.local;
    assert_eq!(table.open(spec("web", "127.0.0.1:0", 1)).unwrap().info.local, first);
    assert_eq!(table.open(spec("renamed", &first.to_string(), 1)).unwrap().info.local, first);
    assert_eq!(table.len(), 1);
    assert_ne!(table.open(spec("other", "127.0.0.1:0", 1)).unwrap().info.local, first);
    assert_eq!(table.len(), 2);
}

#[test]
fn group_shares_one_port_and_takes_connections_before_anyone_accepts() {
    let mut table = ListenerTable::default();
    let listener = table.open(spec("web", "[::1]:0", 4)).unwrap();
    assert_eq!(listener.descriptors().count(), 4);
    let address = listener.info.local;
    let waiting: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(waiting.len(), 8);
}

#[test]
fn port_in_use_names_listener_address_and_fix() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    for sockets in [1, 2] {
        let refusal = ListenerTable::default().open(spec("web", &address, sockets)).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::AddressInUse);
        for part in ["`web`", &address, "choose another port"] {
            assert!(refusal.message.contains(part), "{part} in {refusal}");
        }
    }
}

#[test]
fn group_of_another_starter_is_not_joined() {
    let mut first = ListenerTable::default();
    let address = first.open(spec("web", "127.0.0.1:0", 2)).unwrap().info.local.to_string();
    let refusal = ListenerTable::default().open(spec("web", &address, 2)).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::AddressInUse);
}

#[test]
fn address_that_the_node_does_not_have_is_named() {
    let refusal = ListenerTable::default().open(spec("web", "192.0.2.1:8080", 1)).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::AddressNotAvailable);
    assert!(refusal.message.contains("192.0.2.1:8080"));
}

#[test]
fn closed_listener_frees_its_port() {
    let mut table = ListenerTable::default();
    let address: SocketAddr = table.open(spec("web", "127.0.0.1:0", 2)).unwrap().info.local;
    assert!(table.close("web", address));
    assert!(!table.close("web", address));
    TcpListener::bind(address).unwrap();
}

#[test]
fn long_listing_comes_in_pages_that_fit_a_message() {
    let mut table = ListenerTable::default();
    for number in 0..9 {
        table.open(spec(&format!("l{number}"), "127.0.0.1:0", 30)).unwrap();
    }
    let (mut from, mut seen) = (Some(0), 0);
    while let Some(index) = from {
        let (page, next) = table.page(index);
        assert!(page.iter().map(|listener| listener.descriptors().count()).sum::<usize>() <= 128);
        seen += page.len();
        from = next;
    }
    assert_eq!(seen, 9);
    assert_eq!(table.page(99).0.len(), 0);
}

#[test]
fn senseless_wishes_are_refused() {
    let mut table = ListenerTable::default();
    assert_eq!(table.open(spec("web", "127.0.0.1:0", 0)).unwrap_err().kind, RefusalKind::Invalid);
    assert_eq!(table.open(spec("web", "127.0.0.1:0", 9999)).unwrap_err().kind, RefusalKind::Invalid);
    assert_eq!(table.open(spec(&"x".repeat(300), "127.0.0.1:0", 1)).unwrap_err().kind, RefusalKind::Invalid);
}
