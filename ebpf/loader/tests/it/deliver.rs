//! Packets for pods of this node, handed to them past the stack.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};

use mesh_ebpf_abi::EndpointValue;
use mesh_ebpf_loader::{DatapathConfig, Device, KernelFeatures, plan};
use nix::net::if_::if_nametoindex;

use crate::harness::{
    BACKEND4, BACKEND6, CLIENT4, CLIENT6, IMPATIENCE, Namespace, Node, PATIENCE, accept, connect, on_node,
};

const DEVICES: [&str; 2] = ["mrt-client", "mrt-backend"];

fn mac_of(device: &str) -> [u8; 6] {
    let output =
        std::process::Command::new("ip").args(["-o", "link", "show", "dev", device]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let shown = text.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let bytes: Vec<u8> = shown.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// Two pods that the programs know; whether packets go past the stack.
fn ready(node: &mut Node, legacy: bool) -> (Namespace, Namespace) {
    let config = DatapathConfig { legacy_host_routing: legacy, ..node.config() };
    node.load_plan(&plan(&config, &KernelFeatures::probe()).unwrap());
    for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{switch}"), "1").unwrap();
    }
    let pods = (node.client(), node.backend());
    let addresses = [[CLIENT4, CLIENT6], [BACKEND4, BACKEND6]];
    for ((device, pod), addresses) in DEVICES.into_iter().zip([&pods.0, &pods.1]).zip(addresses) {
        node.datapath().attach(&Device::pod(device)).unwrap();
        let (mac, node_mac) = (pod.run(|| mac_of("eth0")), mac_of(device));
        let value = EndpointValue { device: if_nametoindex(device).unwrap(), mac, node_mac };
        for address in addresses {
            node.datapath().maps().endpoints().insert(&address.into(), &value).unwrap();
        }
    }
    pods
}

fn udp(at: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((at, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn talk(one: &Namespace, other: &Namespace, from: IpAddr, at: IpAddr) {
    let listener = other.run(move || TcpListener::bind((at, 0)).unwrap());
    let to = listener.local_addr().unwrap();
    let connecting = one.start(move || connect(to).unwrap());
    let (mut served, peer): (TcpStream, _) = accept(&listener).unwrap();
    assert_eq!(peer.ip(), from);
    let mut stream = connecting.recv().unwrap();
    let words = vec![7; 300_000];
    let sent = words.clone();
    let sending = std::thread::spawn(move || stream.write_all(&sent).map(|()| stream));
    let mut heard = vec![0; words.len()];
    served.read_exact(&mut heard).unwrap();
    assert!(heard == words);
    drop(sending.join().unwrap().unwrap());
    let (server, socket) = (other.run(move || udp(at)), one.run(move || udp(from)));
    for size in [10, 9000] {
        socket.send_to(&vec![1; size], server.local_addr().unwrap()).unwrap();
        let mut heard = vec![0; 10_000];
        let (length, peer) = server.recv_from(&mut heard).unwrap();
        server.send_to(&heard[..length], peer).unwrap();
        assert_eq!(socket.recv_from(&mut heard).unwrap().0, size);
    }
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_pods_of_one_node_reach_each_other_past_the_stack() {
    on_node("kernel_pods_of_one_node_reach_each_other_past_the_stack", |node| {
        let (client, backend) = ready(node, false);
        // The stack would not let anything through.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "0").unwrap();
        for (from, at) in [(CLIENT4, BACKEND4), (CLIENT6, BACKEND6)] {
            let counted = node.counted(|_| talk(&client, &backend, from, at));
            assert!(counted["delivered"] > 20, "{counted:?}");
        }
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_the_legacy_switch_sends_pods_packets_through_the_stack() {
    on_node("kernel_the_legacy_switch_sends_pods_packets_through_the_stack", |node| {
        let (client, backend) = ready(node, true);
        for (from, at) in [(CLIENT4, BACKEND4), (CLIENT6, BACKEND6)] {
            let counted = node.counted(|_| talk(&client, &backend, from, at));
            assert!(!counted.contains_key("delivered"), "{counted:?}");
        }
    });
}

/// Who has no hop left is told by the stack, not by a packet that arrives.
#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_packet_without_a_hop_left_is_answered_by_the_node() {
    on_node("kernel_a_packet_without_a_hop_left_is_answered_by_the_node", |node| {
        let (client, backend) = ready(node, false);
        let server = backend.run(|| udp(BACKEND4));
        let to = server.local_addr().unwrap();
        server.set_read_timeout(Some(IMPATIENCE)).unwrap();
        let counted = node.counted(|_| {
            client.run(move || {
                let socket = udp(CLIENT4);
                socket.set_ttl(1).unwrap();
                socket.send_to(b"far", to).unwrap();
            });
            server.recv_from(&mut [0; 8]).unwrap_err();
        });
        assert!(!counted.contains_key("delivered"), "{counted:?}");
        let forwarded = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
        let icmp: Vec<&str> = forwarded.lines().filter(|line| line.starts_with("Icmp:")).collect();
        let place = icmp[0].split(' ').position(|name| name == "OutTimeExcds").unwrap();
        assert_eq!(icmp[1].split(' ').nth(place), Some("1"), "the sender was told");
    });
}
