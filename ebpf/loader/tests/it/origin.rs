//! What a pod sends in somebody else's name.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use mesh_ebpf_abi::constants::UPSTREAM_PORTS;
use mesh_ebpf_abi::{EndpointValue, PodAddresses};
use mesh_ebpf_loader::Device;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Socket, Type};

use crate::harness::{
    BACKEND4, BACKEND6, CLIENT4, CLIENT6, IMPATIENCE, Namespace, Node, PATIENCE, ip, on_node,
};
use crate::packet::Packet;
use crate::packets;

const POD: &str = "mrt-client";
/// Addresses of the pod's namespace that it was not given.
const OTHERS: [&str; 2] = ["10.0.0.99", "fd00::99"];

/// A pod that is held to its addresses, and somebody it talks to.
fn ready(node: &mut Node) -> (Namespace, Namespace) {
    node.load();
    for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{switch}"), "1").unwrap();
    }
    let (pod, outside) = (node.client(), node.backend());
    let index = if_nametoindex(POD).unwrap();
    let addresses = PodAddresses { v4: CLIENT4.into(), v6: CLIENT6.into() };
    node.datapath().maps().pod_sources().insert(&index, &addresses).unwrap();
    node.datapath().attach(&Device::pod(POD)).unwrap();
    pod.run(|| {
        for other in OTHERS {
            let bits = if other.contains(':') { "128 nodad" } else { "32" };
            ip(&format!("addr add {other}/{bits} dev eth0"));
        }
    });
    (pod, outside)
}

/// Whether a datagram from one address arrives at another.
fn arrives(pod: &Namespace, outside: &Namespace, from: IpAddr, at: IpAddr) -> bool {
    let server = outside.run(move || UdpSocket::bind((at, 0)).unwrap());
    let to = server.local_addr().unwrap();
    let is_own = [CLIENT4, CLIENT6].contains(&from);
    server.set_read_timeout(Some(if is_own { PATIENCE } else { IMPATIENCE })).unwrap();
    pod.run(move || UdpSocket::bind((from, 0)).unwrap().send_to(b"it is me", to).unwrap());
    server.recv_from(&mut [0; 8]).is_ok_and(|(_, peer)| peer.ip() == from)
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_pod_sends_in_its_own_name_alone() {
    on_node("kernel_a_pod_sends_in_its_own_name_alone", |node| {
        let (pod, outside) = ready(node);
        for ((own, at), other) in [(CLIENT4, BACKEND4), (CLIENT6, BACKEND6)].into_iter().zip(OTHERS) {
            // Neighbours have to be found first: by addresses of the link.
            assert!(arrives(&pod, &outside, own, at), "{own}");
            let counted = node.counted(|_| {
                assert!(!arrives(&pod, &outside, other.parse().unwrap(), at), "{other}");
            });
            assert!(counted["dropped_tc_invalid_source"] > 0, "{counted:?}");
        }
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_pod_notes_no_connection_for_another_one() {
    on_node("kernel_a_pod_notes_no_connection_for_another_one", |node| {
        let (pod, _outside) = ready(node);
        pod.run(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let other: IpAddr = OTHERS[0].parse().unwrap();
            socket.bind(&SocketAddr::new(other, UPSTREAM_PORTS.0).into()).unwrap();
            let to = SocketAddr::new(BACKEND4, 9).into();
            socket.connect_timeout(&to, IMPATIENCE).unwrap_err();
            drop(TcpStream::from(socket));
        });
        let maps = node.datapath().maps();
        assert_eq!(mesh_ebpf_maps::LoadBalancerMaps::direct_flows(maps).entries().unwrap(), []);
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_what_is_of_the_link_is_for_the_stack_and_no_other_pod() {
    // The device that packets of a test run come by.
    const LOOPBACK: u32 = 1;
    on_node("kernel_what_is_of_the_link_is_for_the_stack_and_no_other_pod", |node| {
        node.load();
        let addresses = PodAddresses { v4: CLIENT4.into(), v6: CLIENT6.into() };
        let maps = node.datapath().maps();
        maps.pod_sources().insert(&LOOPBACK, &addresses).unwrap();
        let behind = EndpointValue { device: LOOPBACK, mac: [2; 6], node_mac: [2; 6] };
        for address in [BACKEND4, BACKEND6] {
            maps.endpoints().insert(&address.into(), &behind).unwrap();
        }
        let run = |node: &mut Node, to: IpAddr, source: &[u8]| {
            let mut frame = Packet::to(to, 80).ethernet();
            let at = if to.is_ipv4() { 14 + 12 } else { 14 + 8 };
            frame[at..at + source.len()].copy_from_slice(source);
            let (verdict, counted) = packets::run(node, "mr_tc_pod", &frame);
            (verdict, counted.contains_key("delivered"), counted.contains_key("dropped_tc_invalid_source"))
        };
        let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        assert_eq!(run(node, BACKEND4, &[0; 4]), (-1, false, false));
        assert_eq!(run(node, BACKEND6, &[0; 16]), (-1, false, false));
        assert_eq!(run(node, BACKEND6, &link_local), (-1, false, false));
        assert_eq!(run(node, BACKEND4, &[10, 0, 0, 8]), (2, false, true));
        assert!(run(node, BACKEND4, &[10, 0, 0, 7]).1, "its own go past the stack");
        // Where nothing is known of a device's pod, it is another network's.
        node.datapath().maps().pod_sources().remove(&LOOPBACK).unwrap();
        assert!(run(node, BACKEND4, &[10, 0, 0, 8]).1);
    });
}
