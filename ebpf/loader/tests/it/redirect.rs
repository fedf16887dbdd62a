//! Connections through the proxy's listeners, in namespaces.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use mesh_ebpf_loader::Device;

use crate::harness::{
    BACKEND4, BACKEND6, CLIENT4, CLIENT6, IMPATIENCE, Node, PATIENCE, VIP4, VIP6, accept, connect, ip,
    on_node, transparent,
};

const CLIENT_DEVICE: &str = "mrt-client";
const BACKEND_DEVICE: &str = "mrt-backend";

fn ready(node: &mut Node) {
    node.load();
    for vip in [VIP4, VIP6] {
        node.proxy_service(vip, 80);
    }
}

fn say(from: &mut TcpStream, to: &mut TcpStream, words: &[u8]) {
    from.write_all(words).unwrap();
    let mut heard = vec![0; words.len()];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(heard, words);
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_the_proxy_sees_the_address_dialled_and_the_clients_own() {
    on_node("kernel_the_proxy_sees_the_address_dialled_and_the_clients_own", |node| {
        ready(node);
        let client = node.client();
        node.datapath().attach(&Device::ethernet(CLIENT_DEVICE)).unwrap();
        let proxy = node.proxy(1);
        for (vip, source) in [(VIP4, CLIENT4), (VIP6, CLIENT6)] {
            let dialled = SocketAddr::from((vip, 80));
            let counted = node.counted(|_| {
                let connecting = client.start(move || connect(dialled).unwrap());
                let (mut served, peer) = accept(proxy[0].of(vip)).unwrap();
                let mut stream = connecting.recv().unwrap();
                assert_eq!(served.local_addr().unwrap(), dialled);
                assert_eq!(peer, stream.local_addr().unwrap());
                assert_eq!(peer.ip(), source);
                assert_eq!(stream.peer_addr().unwrap(), dialled);
                say(&mut stream, &mut served, b"request");
                say(&mut served, &mut stream, b"response");
            });
            assert_eq!(counted["redirected_tc_new"], 1, "the SYN: {counted:?}");
            assert!(counted["redirected_tc_established"] >= 2, "ACK and data: {counted:?}");
        }
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_with_the_program_detached_nothing_is_redirected() {
    on_node("kernel_with_the_program_detached_nothing_is_redirected", |node| {
        ready(node);
        let client = node.client();
        let device = Device::ethernet(CLIENT_DEVICE);
        let _proxy = node.proxy(1);
        for vip in [VIP4, VIP6] {
            let dial = move || TcpStream::connect_timeout(&(vip, 80).into(), IMPATIENCE);
            client.run(dial).expect_err("not attached yet");
            node.datapath().attach(&device).unwrap();
            client.run(dial).expect("attached");
            assert!(node.datapath().detach(&device).unwrap());
            client.run(dial).expect_err("detached");
        }
        assert!(!node.datapath().detach(&device).unwrap());
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_without_a_proxy_its_services_are_dropped_on_the_node() {
    on_node("kernel_without_a_proxy_its_services_are_dropped_on_the_node", |node| {
        ready(node);
        let client = node.client();
        node.datapath().attach(&Device::ethernet(CLIENT_DEVICE)).unwrap();
        let counted = node.counted(|_| {
            client.run(|| TcpStream::connect_timeout(&(VIP4, 80).into(), IMPATIENCE)).unwrap_err();
        });
        assert!(counted["dropped_tc_no_listener"] >= 1, "{counted:?}");
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_connection_stays_with_the_proxy_when_its_service_goes() {
    on_node("kernel_a_connection_stays_with_the_proxy_when_its_service_goes", |node| {
        use mesh_ebpf_abi::{Be16, Protocol, ServiceKey};
        use mesh_ebpf_maps::LoadBalancerMaps;
        ready(node);
        let client = node.client();
        node.datapath().attach(&Device::ethernet(CLIENT_DEVICE)).unwrap();
        let proxy = node.proxy(1);
        let mut stream = client.run(|| connect((VIP4, 80).into())).unwrap();
        let (mut served, _) = accept(&proxy[0].v4).unwrap();
        let key = ServiceKey::new(VIP4.into(), Be16::new(80), Protocol::Tcp);
        assert!(node.datapath().maps().services().remove(&key).unwrap());
        say(&mut stream, &mut served, b"request");
        say(&mut served, &mut stream, b"response");
        client.run(|| TcpStream::connect_timeout(&(VIP4, 80).into(), IMPATIENCE)).unwrap_err();
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_connections_spread_over_the_proxys_threads() {
    on_node("kernel_connections_spread_over_the_proxys_threads", |node| {
        ready(node);
        let client = node.client();
        node.datapath().attach(&Device::ethernet(CLIENT_DEVICE)).unwrap();
        let proxy = node.proxy(2);
        let streams = client.run(|| (0..40).map(|_| connect((VIP4, 80).into()).unwrap()).collect::<Vec<_>>());
        let accepted = proxy.iter().map(|pair| {
            pair.v4.set_nonblocking(true).unwrap();
            std::iter::from_fn(|| pair.v4.accept().ok()).count()
        });
        let accepted: Vec<_> = accepted.collect();
        assert_eq!(accepted.iter().sum::<usize>(), streams.len());
        // All 40 on one thread would have a chance of 2^-39.
        assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_source_port_can_be_used_again_while_the_proxy_waits_out_the_old_connection() {
    let name = "kernel_a_source_port_can_be_used_again_while_the_proxy_waits_out_the_old_connection";
    on_node(name, |node| {
        ready(node);
        let client = node.client();
        node.datapath().attach(&Device::ethernet(CLIENT_DEVICE)).unwrap();
        let proxy = node.proxy(1);
        for (vip, source) in [(VIP4, CLIENT4), (VIP6, CLIENT6)] {
            let dial = move || {
                let socket = transparent(source);
                socket.bind(&SocketAddr::from((source, 45000)).into()).unwrap();
                socket.connect_timeout(&SocketAddr::from((vip, 80)).into(), PATIENCE).unwrap();
                let stream = TcpStream::from(socket);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream
            };
            for round in 0..2 {
                let connecting = client.start(dial);
                let (served, _) = accept(proxy[0].of(vip)).unwrap_or_else(|error| panic!("{round}: {error}"));
                let mut stream = connecting.recv().unwrap();
                // The proxy closes first, so TIME_WAIT is on its side.
                drop(served);
                assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
            }
        }
    });
}

/// The proxy's upstream connection with the client's address: the backend's replies to it come back.
#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_replies_to_a_kept_source_address_come_back_to_the_proxy() {
    on_node("kernel_replies_to_a_kept_source_address_come_back_to_the_proxy", |node| {
        ready(node);
        let _client = node.client();
        let backend = node.backend();
        node.datapath().attach(&Device::ethernet(BACKEND_DEVICE)).unwrap();
        for (source, target) in [(CLIENT4, BACKEND4), (CLIENT6, BACKEND6)] {
            let listener = backend.run(move || TcpListener::bind((target, 0)).unwrap());
            let address = listener.local_addr().unwrap();
            let serving = backend.start(move || accept(&listener).unwrap());
            let counted = node.counted(|_| {
                let mut upstream = upstream(source, address);
                let (mut served, seen) = serving.recv().unwrap();
                assert_eq!(seen.ip(), source, "the backend sees the client");
                say(&mut upstream, &mut served, b"request");
                say(&mut served, &mut upstream, b"response");
            });
            assert!(counted["redirected_tc_established"] >= 2, "{counted:?}");
            assert!(!counted.contains_key("redirected_tc_new"), "{counted:?}");
        }
    });
}

fn upstream(source: IpAddr, target: SocketAddr) -> TcpStream {
    let socket = transparent(source);
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect_timeout(&target.into(), PATIENCE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Ordinary sockets of the node on a device with the program work as without it, whether the node's
/// addresses are known to the program or not.
#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_the_nodes_own_connections_are_not_disturbed() {
    on_node("kernel_the_nodes_own_connections_are_not_disturbed", |node| {
        use mesh_ebpf_maps::LoadBalancerMaps;
        ready(node);
        let client = node.client();
        node.datapath().attach(&Device::ethernet(CLIENT_DEVICE)).unwrap();
        let _proxy = node.proxy(1);
        let gateway: IpAddr = "10.0.0.1".parse().unwrap();
        let own = TcpListener::bind((gateway, 0)).unwrap();
        for known in [false, true] {
            if known {
                node.datapath().maps().node_addresses().insert(&gateway.into(), &0).unwrap();
            }
            let address = own.local_addr().unwrap();
            let counted = node.counted(|_| {
                let connecting = client.start(move || connect(address).unwrap());
                let (mut served, _) = accept(&own).unwrap();
                let mut stream = connecting.recv().unwrap();
                say(&mut stream, &mut served, b"request");
                say(&mut served, &mut stream, b"response");
            });
            assert!(!counted.contains_key("redirected_tc_new"), "{counted:?}");
            assert_eq!(counted.contains_key("passed_tc_node_address"), known, "{counted:?}");
        }
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_the_nodes_own_processes_reach_the_proxy_by_socket_lookup() {
    on_node("kernel_the_nodes_own_processes_reach_the_proxy_by_socket_lookup", |node| {
        ready(node);
        ip(&format!("route add local {VIP4} dev lo"));
        ip(&format!("-6 route add local {VIP6} dev lo"));
        let proxy = node.proxy(1);
        for vip in [VIP4, VIP6] {
            let dialled = SocketAddr::from((vip, 80));
            let counted = node.counted(|_| {
                let mut stream = connect(dialled).unwrap();
                let (mut served, peer) = accept(proxy[0].of(vip)).unwrap();
                assert_eq!(served.local_addr().unwrap(), dialled);
                assert_eq!(peer, stream.local_addr().unwrap());
                say(&mut stream, &mut served, b"request");
            });
            assert_eq!(counted["redirected_sk_lookup"], 1, "{counted:?}");
            assert_eq!(counted["socket_lb_left_to_proxy"], 1, "{counted:?}");
        }
        drop(proxy);
        let counted = node.counted(|_| {
            let refused = connect((VIP4, 80).into()).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        });
        assert_eq!(counted["dropped_sk_lookup_no_listener"], 1, "{counted:?}");
    });
}
