//! Pods that talk to the outside, through a node that masquerades them.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use mesh_ebpf_abi::{MasqueradeValue, NatKey, NetKey, device_flags, net_flags};
use mesh_ebpf_loader::Device;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::{
    BACKEND4, BACKEND6, CLIENT4, CLIENT6, Namespace, Node, PATIENCE, accept, connect, ip, on_node,
};
use crate::packets;

const UPLINK: &str = "mrt-backend";
/// The node's own addresses towards the outside.
const NODE4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1));
const NODE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1));

/// A pod and the outside, whose way back to the pod's own address is cut.
fn ready(node: &mut Node) -> (Namespace, Namespace) {
    node.load();
    for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{switch}"), "1").unwrap();
    }
    let (pod, outside) = (node.client(), node.backend());
    node.datapath().attach(&Device::ethernet(UPLINK)).unwrap();
    let index = if_nametoindex(UPLINK).unwrap();
    let maps = node.datapath().maps();
    for (network, bits) in [("10.0.0.0", 96 + 24), ("fd00::", 64)] {
        let address = network.parse::<IpAddr>().unwrap().into();
        maps.nets().insert(&NetKey { bits, address }, &net_flags::POD).unwrap();
    }
    let flags = device_flags::PODS_V4 | device_flags::PODS_V6;
    let value = MasqueradeValue { v4: NODE4.into(), v6: NODE6.into(), flags };
    maps.masquerade().insert(&index, &value).unwrap();
    outside.run(|| {
        for route in ["default via 10.0.1.1", "-6 default via fd01::1"] {
            let (family, route) = route.strip_prefix("-6 ").map_or(("-4", route), |rest| ("-6", rest));
            ip(&format!("{family} route del {route}"));
        }
    });
    (pod, outside)
}

fn ends() -> [(IpAddr, IpAddr, IpAddr); 2] {
    [(CLIENT4, BACKEND4, NODE4), (CLIENT6, BACKEND6, NODE6)]
}

fn udp(at: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((at, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_pods_leave_by_tcp_with_the_nodes_address_and_are_answered() {
    on_node("kernel_pods_leave_by_tcp_with_the_nodes_address_and_are_answered", |node| {
        let (pod, outside) = ready(node);
        for (_, at, seen) in ends() {
            let listener = outside.run(move || TcpListener::bind((at, 0)).unwrap());
            let to = listener.local_addr().unwrap();
            let counted = node.counted(|_| {
                let connecting = pod.start(move || connect(to).unwrap());
                let (mut served, peer) = accept(&listener).unwrap();
                assert_eq!(peer.ip(), seen);
                assert!((1024..30000).contains(&peer.port()), "{peer}");
                let mut stream = connecting.recv().unwrap();
                // More than one segment, so that offloads are met too.
                let words = vec![7; 300_000];
                let sent = words.clone();
                let sending = std::thread::spawn(move || {
                    stream.write_all(&sent).unwrap();
                    stream
                });
                let mut heard = vec![0; words.len()];
                served.read_exact(&mut heard).unwrap();
                assert_eq!(heard, words);
                let mut stream = sending.join().unwrap();
                served.write_all(b"answer").unwrap();
                let mut heard = [0; 6];
                stream.read_exact(&mut heard).unwrap();
                assert_eq!(&heard, b"answer");
            });
            assert!(counted["masqueraded"] > 3 && counted["unmasqueraded"] > 3, "{counted:?}");
        }
        // The node's own connections keep their ports.
        let listener = outside.run(|| TcpListener::bind((BACKEND4, 0)).unwrap());
        let own = connect(listener.local_addr().unwrap()).unwrap();
        let (_, peer) = accept(&listener).unwrap();
        assert_eq!(peer, own.local_addr().unwrap());
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_pods_leave_by_udp_in_fragments_too() {
    on_node("kernel_pods_leave_by_udp_in_fragments_too", |node| {
        let (pod, outside) = ready(node);
        for (own, at, seen) in ends() {
            let server = outside.run(move || udp(at));
            let to = server.local_addr().unwrap();
            let socket = pod.run(move || udp(own));
            for size in [10, 1400, 4000, 9000] {
                let words = vec![size as u8; size];
                socket.send_to(&words, to).unwrap();
                let mut heard = vec![0; 10_000];
                let (length, peer) = server.recv_from(&mut heard).unwrap();
                assert_eq!((length, peer.ip()), (size, seen), "{size} bytes");
                server.send_to(&heard[..length], peer).unwrap();
                let (length, peer) = socket.recv_from(&mut heard).unwrap();
                assert_eq!((&heard[..length], peer), (&words[..], to), "{size} bytes back");
            }
        }
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_errors_from_outside_reach_the_pod_they_are_about() {
    on_node("kernel_errors_from_outside_reach_the_pod_they_are_about", |node| {
        let (pod, outside) = ready(node);
        for (own, at, _) in ends() {
            // A port that nobody listens on any more.
            let closed = outside.run(move || udp(at).local_addr().unwrap());
            let error = pod.run(move || {
                let socket = udp(own);
                socket.connect(closed).unwrap();
                socket.send(b"anybody?").unwrap();
                socket.recv(&mut [0; 10]).unwrap_err()
            });
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{at}");
        }
        let counted = node.counters();
        assert!(counted["unmasqueraded"] >= 2, "{counted:?}");
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_pods_that_ping_the_outside_are_answered() {
    on_node("kernel_pods_that_ping_the_outside_are_answered", |node| {
        let (pod, _outside) = ready(node);
        for (at, domain, protocol, request) in
            [(BACKEND4, Domain::IPV4, Protocol::ICMPV4, 8), (BACKEND6, Domain::IPV6, Protocol::ICMPV6, 128)]
        {
            let reply = pod.run(move || {
                let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket.connect(&SocketAddr::new(at, 0).into()).unwrap();
                // The kernel makes the checksum of ICMPv6; for IPv4 it is the complement of the words' sum.
                let mut echo = [request, 0, 0, 0, 0x12, 0x34, 0, 1];
                let sum = !(u16::from_be_bytes([request, 0]) + 0x1234 + 1);
                echo[2..4].copy_from_slice(&sum.to_be_bytes());
                socket.send(&echo).unwrap();
                let mut bytes = [0; 100];
                loop {
                    let length = (&socket).read(&mut bytes).unwrap();
                    // IPv4 gives the IP header too; IPv6 may give neighbours' messages.
                    let start = if domain == Domain::IPV4 { 20 } else { 0 };
                    if [0, 129].contains(&bytes[start]) {
                        break bytes[start..length].to_vec();
                    }
                }
            });
            assert_eq!(reply[4..], [0x12, 0x34, 0, 1], "the identifier it sent, {at}");
        }
        let counted = node.counters();
        assert_eq!((counted["masqueraded"], counted["unmasqueraded"]), (2, 2), "{counted:?}");
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_what_outside_opens_towards_a_pod_is_answered_by_the_pod() {
    on_node("kernel_what_outside_opens_towards_a_pod_is_answered_by_the_pod", |node| {
        let (pod, outside) = ready(node);
        outside.run(|| {
            ip("route add default via 10.0.1.1");
            ip("-6 route add default via fd01::1");
        });
        for (own, _, _) in ends() {
            let listener = pod.run(move || TcpListener::bind((own, 0)).unwrap());
            let to: SocketAddr = listener.local_addr().unwrap();
            let connecting = outside.start(move || connect(to).unwrap());
            let (mut served, _) = accept(&listener).unwrap();
            let mut stream = connecting.recv().unwrap();
            served.write_all(b"mine").unwrap();
            let mut heard = [0; 4];
            stream.read_exact(&mut heard).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), to);
        }
        assert_eq!(node.counters()["masqueraded"], 0);
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_many_connections_of_a_pod_share_no_port() {
    on_node("kernel_many_connections_of_a_pod_share_no_port", |node| {
        let (pod, outside) = ready(node);
        let listener = outside.run(|| TcpListener::bind((BACKEND4, 0)).unwrap());
        let to = listener.local_addr().unwrap();
        let connecting = pod.start(move || (0..300).map(|_| connect(to).unwrap()).collect::<Vec<_>>());
        let mut served: Vec<_> = (0..300).map(|_| accept(&listener).unwrap()).collect();
        let mut streams = connecting.recv().unwrap();
        served.sort_by_key(|(_, peer)| peer.port());
        served.dedup_by_key(|(_, peer)| peer.port());
        assert_eq!(served.len(), 300);
        for (number, stream) in (0u16..).zip(&mut streams) {
            stream.write_all(&number.to_be_bytes()).unwrap();
        }
        let mut heard: Vec<u16> = Vec::new();
        for (stream, _) in &mut served {
            let mut number = [0; 2];
            stream.read_exact(&mut number).unwrap();
            heard.push(u16::from_be_bytes(number));
            stream.write_all(&number).unwrap();
        }
        for (number, stream) in (0u16..).zip(&mut streams) {
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(u16::from_be_bytes(answer), number);
        }
        heard.sort_unstable();
        assert_eq!(heard, (0..300).collect::<Vec<_>>());
        let entries = node.datapath().maps().nat().entries().unwrap();
        let coming = entries.iter().filter(|(key, _)| key.direction == NatKey::COMING).count();
        assert_eq!((coming, entries.len()), (300, 600));
    });
}

/// A datagram with an Ethernet header, and this many bytes behind the IP header.
pub(crate) fn datagram(source: [u8; 4], destination: [u8; 4], ports: (u16, u16), length: usize) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([0x08, 0x00, 0x45, 0, 0, (20 + length) as u8, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(source);
    frame.extend(destination);
    let mut payload = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), [0, 8], [0, 0]].concat();
    payload.truncate(length);
    frame.extend(payload);
    frame
}

/// A node whose loopback device, by which packets of test runs come and go, masquerades its pods.
fn with_loopback(node: &mut Node) {
    node.load();
    masquerade_loopback(node);
}

pub(crate) fn masquerade_loopback(node: &mut Node) {
    const LOOPBACK: u32 = 1;
    let maps = node.datapath().maps();
    let address = IpAddr::from([10, 0, 0, 0]).into();
    maps.nets().insert(&NetKey { bits: 96 + 24, address }, &net_flags::POD).unwrap();
    let value = MasqueradeValue { v4: NODE4.into(), v6: NODE6.into(), flags: device_flags::PODS_V4 };
    maps.masquerade().insert(&LOOPBACK, &value).unwrap();
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_pods_packets_without_ports_do_not_leave_with_the_pods_address() {
    on_node("kernel_pods_packets_without_ports_do_not_leave_with_the_pods_address", |node| {
        with_loopback(node);
        for length in 0..4 {
            let (verdict, counted) =
                packets::run(node, "mr_tc_egress", &datagram([10, 0, 0, 7], [192, 0, 2, 9], (1, 2), length));
            assert_eq!((verdict, counted["dropped_masquerade"]), (2, 1), "{length} bytes of UDP");
        }
        let (verdict, counted) =
            packets::run(node, "mr_tc_egress", &datagram([10, 0, 1, 1], [192, 0, 2, 9], (1, 2), 3));
        assert_eq!((verdict, counted.len()), (-1, 0), "the node's own are its own matter");
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_flood_from_outside_takes_no_connection_away() {
    on_node("kernel_a_flood_from_outside_takes_no_connection_away", |node| {
        with_loopback(node);
        let sent = datagram([10, 0, 0, 7], [192, 0, 2, 9], (40000, 53), 8);
        assert_eq!(packets::run(node, "mr_tc_egress", &sent).1["masqueraded"], 1);
        let mut before = node.datapath().maps().nat().entries().unwrap();
        let path = node.pin_root().join("progs").join("mr_tc_ingress");
        let program = SchedClassifier::from_pin(path).unwrap();
        for number in 0..200_000u32 {
            let [a, b, c, _] = (number << 8).to_be_bytes();
            let flood = datagram([203, a, b, c], [10, 0, 0, 7], (53, 40000), 8);
            let options = TestRunOptions { data_in: Some(&flood), ..TestRunOptions::default() };
            program.test_run(options).unwrap();
        }
        let mut after = node.datapath().maps().nat().entries().unwrap();
        before.sort_unstable();
        after.sort_unstable();
        assert_eq!(after, before);
        assert!(node.datapath().maps().notes().entries().unwrap().len() > 16_000);
    });
}
