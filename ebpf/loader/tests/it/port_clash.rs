//! Two connections with the same two ends: one of a pod, one of the proxy with the pod's address.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use mesh_ebpf_abi::constants::{CLIENT_ADDRESS_MARK, UPSTREAM_PORTS};
use mesh_ebpf_loader::Device;
use mesh_ebpf_maps::LoadBalancerMaps;
use socket2::Socket;

use crate::harness::{
    BACKEND4, BACKEND6, CLIENT4, CLIENT6, IMPATIENCE, Node, PATIENCE, on_node, transparent,
};
use crate::packet::Packet;
use crate::packets::run;

const PORT: u16 = 8080;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;
const UNSPEC: i32 = -1;
const SHOT: i32 = 2;

/// A socket as the proxy has it for a pod.
fn socket_of_the_proxy(pod: IpAddr, mark: u32) -> Socket {
    let socket = transparent(pod);
    socket.set_mark(mark).unwrap();
    socket.bind(&SocketAddr::from((pod, UPSTREAM_PORTS.0)).into()).unwrap();
    socket
}

fn connect(socket: &Socket, backend: IpAddr) -> ErrorKind {
    socket.connect_timeout(&SocketAddr::from((backend, PORT)).into(), IMPATIENCE).unwrap_err().kind()
}

fn packet(backend: IpAddr) -> Packet {
    Packet::to(backend, PORT).with_source_port(UPSTREAM_PORTS.0)
}

fn check(node: &mut Node, program: &str, packet: &Packet, verdict: i32, counter: &'static str) {
    let expected = (verdict, BTreeMap::from([(counter, 1)]));
    assert_eq!(run(node, program, &packet.ethernet()), expected);
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_the_proxy_cannot_connect_with_the_two_ends_of_a_pods_own_connection() {
    on_node("kernel_the_proxy_cannot_connect_with_the_two_ends_of_a_pods_own_connection", |node| {
        node.load();
        // Refuses, since nobody listens; and its refusals come back to the socket.
        let _backends = node.backend();
        node.datapath().attach(&Device::pod("mrt-backend")).unwrap();
        for (pod, backend) in [(CLIENT4, BACKEND4), (CLIENT6, BACKEND6)] {
            check(node, "mr_tc_pod", &packet(backend), UNSPEC, "passed_tc_other");

            let refused = node.counted(|_| {
                let socket = socket_of_the_proxy(pod, CLIENT_ADDRESS_MARK);
                assert_eq!(connect(&socket, backend), ErrorKind::AddrNotAvailable);
            });
            assert_eq!(refused.get("refused_connect_port_clash"), Some(&1), "{refused:?}");
            // A process that is not the proxy, such as one of the pod itself, is left alone. Here the answer
            // to it goes to the pod, so nothing is heard.
            let other = node.counted(|_| {
                let socket = socket_of_the_proxy(pod, 0);
                assert_ne!(connect(&socket, backend), ErrorKind::AddrNotAvailable);
            });
            assert_eq!(other.get("refused_connect_port_clash"), None, "{other:?}");

            check(node, "mr_tc_pod", &packet(backend).with_flags(RST), UNSPEC, "passed_tc_other");
            let socket = socket_of_the_proxy(pod, CLIENT_ADDRESS_MARK);
            assert_eq!(connect(&socket, backend), ErrorKind::ConnectionRefused, "the pod has let go");
        }
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_only_pods_and_borrowed_ports_are_noted() {
    on_node("kernel_only_pods_and_borrowed_ports_are_noted", |node| {
        node.load();
        let noted = |node: &mut Node| node.datapath().maps().direct_flows().entries().unwrap().len();
        for backend in [BACKEND4, BACKEND6] {
            for port in [UPSTREAM_PORTS.0 - 1, UPSTREAM_PORTS.1 + 1] {
                let outside = packet(backend).with_source_port(port);
                check(node, "mr_tc_pod", &outside, UNSPEC, "passed_tc_other");
            }
            check(node, "mr_tc_ingress", &packet(backend), UNSPEC, "passed_tc_other");
        }
        assert_eq!(noted(node), 0);
        for backend in [BACKEND4, BACKEND6] {
            check(node, "mr_tc_pod", &packet(backend), UNSPEC, "passed_tc_other");
        }
        assert_eq!(noted(node), 2);
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_pods_own_answers_pass_the_proxys_sockets_by() {
    on_node("kernel_a_pods_own_answers_pass_the_proxys_sockets_by", |node| {
        node.load();
        for backend in [BACKEND4, BACKEND6] {
            let answer = packet(backend).with_flags(ACK).reversed();
            check(node, "mr_tc_pod", &answer, UNSPEC, "passed_tc_other");
            check(node, "mr_tc_pod", &packet(backend), UNSPEC, "passed_tc_other");
            for program in ["mr_tc_pod", "mr_tc_ingress"] {
                check(node, program, &answer, UNSPEC, "passed_tc_direct_flow");
            }
        }
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_pod_cannot_open_a_connection_with_the_two_ends_of_one_of_the_proxys() {
    on_node("kernel_a_pod_cannot_open_a_connection_with_the_two_ends_of_one_of_the_proxys", |node| {
        node.load();
        let backends = node.backend();
        for (pod, backend) in [(CLIENT4, BACKEND4), (CLIENT6, BACKEND6)] {
            node.datapath().attach(&Device::pod("mrt-backend")).unwrap();
            let listener = backends.run(move || std::net::TcpListener::bind((backend, PORT)).unwrap());
            let socket = socket_of_the_proxy(pod, CLIENT_ADDRESS_MARK);
            socket.connect_timeout(&SocketAddr::from((backend, PORT)).into(), PATIENCE).unwrap();
            check(node, "mr_tc_pod", &packet(backend), SHOT, "dropped_tc_port_clash");
            // What opens nothing goes on to the backend, which knows what to do with it.
            check(node, "mr_tc_pod", &packet(backend).with_flags(ACK), UNSPEC, "passed_tc_other");
            assert!(node.datapath().maps().direct_flows().entries().unwrap().is_empty());
            drop((socket, listener));
        }
    });
}
