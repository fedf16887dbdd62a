//! Pods of two nodes that talk through a tunnel.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use mesh_ebpf_abi::{
    BackendValue, Be16, MasqueradeValue, NetKey, Protocol, ServiceFlags, ServiceKey, ServiceValue, SlotKey,
    device_flags,
};
use mesh_ebpf_loader::Device;
use mesh_ebpf_maps::LoadBalancerMaps;
use nix::net::if_::if_nametoindex;

use crate::harness::{
    CLIENT4, CLIENT6, IMPATIENCE, Namespace, Node, OtherNode, PATIENCE, accept, connect, ip, on_two_nodes,
    transparent,
};

const TUNNEL: &str = "millrace_vxlan";
const WIRE: &str = "mrt-wire";
const POD: &str = "mrt-pod";

/// One of the two.
#[derive(Clone, Copy)]
struct Side {
    wire: (IpAddr, IpAddr),
    /// The pod's addresses; the first of each range is the node's own.
    pod: (IpAddr, IpAddr),
    own: (IpAddr, IpAddr),
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(net: u16, sub: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(net, sub, 0, 0, 0, 0, 0, host))
}

const FIRST: Side = Side {
    wire: (v4(192, 0, 2, 1), v6(0x2001, 0xdb8, 1)),
    pod: (v4(10, 244, 1, 7), v6(0xfd44, 1, 7)),
    own: (v4(10, 244, 1, 1), v6(0xfd44, 1, 1)),
};
const SECOND: Side = Side {
    wire: (v4(192, 0, 2, 2), v6(0x2001, 0xdb8, 2)),
    pod: (v4(10, 244, 2, 8), v6(0xfd44, 2, 8)),
    own: (v4(10, 244, 2, 1), v6(0xfd44, 2, 1)),
};

fn ranges(side: Side) -> [(String, NetKey); 2] {
    let (v4, v6) = side.own;
    let (v4_net, v6_net) = match (v4, v6) {
        (IpAddr::V4(v4), IpAddr::V6(v6)) => {
            (Ipv4Addr::from_bits(v4.to_bits() & !0xff), Ipv6Addr::from_bits(v6.to_bits() & !0xffff))
        }
        _ => unreachable!("IPv4 first"),
    };
    [
        (format!("{v4_net}/24"), NetKey { bits: 96 + 24, address: v4_net.into() }),
        (format!("{v6_net}/64"), NetKey { bits: 64, address: v6_net.into() }),
    ]
}

/// What the agent does on each node.
fn set_up(node: &mut Node, own: Side, other: Side, by_v6: bool) -> Namespace {
    node.load();
    for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{switch}"), "1").unwrap();
    }
    ip(&format!("addr add {}/24 dev {WIRE}", own.wire.0));
    ip(&format!("addr add {}/64 dev {WIRE} nodad", own.wire.1));
    ip(&format!("link set {WIRE} up"));
    ip(&format!("link add {TUNNEL} type vxlan external dstport 8472 nolearning"));
    let mtu = if by_v6 { 1430 } else { 1450 };
    ip(&format!("link set {TUNNEL} arp off mtu {mtu} up"));
    let pod = node.namespace(POD, own.pod);
    // As its routes say.
    pod.run(move || ip(&format!("link set eth0 mtu {mtu}")));
    let [v4, v6] = ranges(other).map(|(range, _)| range);
    ip(&format!("route add {v4} via 169.254.1.1 dev {TUNNEL} onlink src {}", own.own.0));
    ip(&format!("-6 route add {v6} via fe80::1 dev {TUNNEL} onlink src {}", own.own.1));
    let datapath = node.datapath();
    datapath.attach(&Device::pod(POD)).unwrap();
    datapath.attach(&Device::ethernet(WIRE)).unwrap();
    datapath.attach(&Device::tunnel(TUNNEL)).unwrap();
    let maps = datapath.maps();
    let wire = if by_v6 { other.wire.1 } else { other.wire.0 };
    for (_, range) in ranges(other) {
        maps.tunnels().insert(&range, &wire.into()).unwrap();
    }
    for (_, range) in ranges(own) {
        maps.nets().insert(&range, &mesh_ebpf_abi::net_flags::POD).unwrap();
    }
    // Pods are masqueraded towards the wire, and never in the tunnel.
    let pods = device_flags::PODS_V4 | device_flags::PODS_V6;
    let devices =
        [(WIRE, own.wire, pods | device_flags::FRONTENDS), (TUNNEL, own.own, device_flags::FRONTENDS)];
    for (device, (v4, v6), flags) in devices {
        let value = MasqueradeValue { v4: v4.into(), v6: v6.into(), flags };
        maps.masquerade().insert(&if_nametoindex(device).unwrap(), &value).unwrap();
        for address in [v4, v6] {
            maps.node_addresses().insert(&address.into(), &0).unwrap();
        }
    }
    pod
}

/// Both nodes, a wire between them, and the pod of each; the second's is kept there.
fn ready(first: &mut Node, second: &OtherNode, by_v6: bool) -> (Namespace, Namespace) {
    ip(&format!("link add {WIRE} type veth peer name {WIRE} netns {}", second.thread));
    let here = set_up(first, FIRST, SECOND, by_v6);
    let there = second.run(move |node| set_up(node, SECOND, FIRST, by_v6));
    (here, there)
}

fn ends() -> [(IpAddr, IpAddr); 2] {
    [(FIRST.pod.0, SECOND.pod.0), (FIRST.pod.1, SECOND.pod.1)]
}

fn echo(mut one: &TcpStream, mut other: &TcpStream) {
    let words = vec![7; 300_000];
    let sent = words.clone();
    std::thread::scope(|scope| {
        scope.spawn(move || one.write_all(&sent).unwrap());
        let mut heard = vec![0; words.len()];
        other.read_exact(&mut heard).unwrap();
        assert!(heard == words, "what came is not what was sent");
    });
    other.write_all(b"answer").unwrap();
    let mut heard = [0; 6];
    one.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"answer");
}

fn udp(at: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((at, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn pods_reach_each_other(first: &mut Node, second: &OtherNode, by_v6: bool) {
    let (here, there) = ready(first, second, by_v6);
    for (from, at) in ends() {
        let listener = there.run(move || TcpListener::bind((at, 0)).unwrap());
        let to = listener.local_addr().unwrap();
        let counted = first.counted(|_| {
            let connecting = here.start(move || connect(to).unwrap());
            let (served, peer) = accept(&listener).unwrap();
            assert_eq!(peer.ip(), from, "the pod's own address");
            echo(&connecting.recv().unwrap(), &served);
        });
        assert!(counted["tunnelled"] > 3 && counted["untunnelled"] > 3, "{counted:?}");
        assert!(!counted.contains_key("masqueraded"), "{counted:?}");
        let server = there.run(move || udp(at));
        let socket = here.run(move || udp(from));
        for size in [10, 1400, 9000] {
            let words = vec![size as u8; size];
            socket.send_to(&words, server.local_addr().unwrap()).unwrap();
            let mut heard = vec![0; 10_000];
            let (length, peer) = server.recv_from(&mut heard).unwrap();
            assert_eq!((length, peer.ip()), (size, from));
            server.send_to(&heard[..length], peer).unwrap();
            assert_eq!(socket.recv_from(&mut heard).unwrap().0, size, "{size} bytes back");
        }
        // The node itself, with its own address of the range: answers come by the tunnel.
        let stream = connect(to).unwrap();
        let (served, peer) = accept(&listener).unwrap();
        assert!(peer.ip() == FIRST.own.0 || peer.ip() == FIRST.own.1, "{peer}");
        echo(&stream, &served);
    }
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_pods_of_two_nodes_talk_through_a_tunnel_over_ipv4() {
    let test = "kernel_pods_of_two_nodes_talk_through_a_tunnel_over_ipv4";
    on_two_nodes(test, |first, second| pods_reach_each_other(first, second, false));
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_pods_of_two_nodes_talk_through_a_tunnel_over_ipv6() {
    let test = "kernel_pods_of_two_nodes_talk_through_a_tunnel_over_ipv6";
    on_two_nodes(test, |first, second| pods_reach_each_other(first, second, true));
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_node_port_leads_through_the_tunnel_and_back() {
    on_two_nodes("kernel_a_node_port_leads_through_the_tunnel_and_back", |first, second| {
        let (_here, there) = ready(first, second, false);
        let client = first.client();
        let beside = first.config().cgroup.unwrap().parent().unwrap().join("cgroup.threads");
        client.run(move || std::fs::write(beside, nix::unistd::gettid().to_string()).unwrap());
        let datapath = first.datapath();
        datapath.attach(&Device::ethernet("mrt-client")).unwrap();
        let own: (IpAddr, IpAddr) = (v4(10, 0, 0, 1), v6(0xfd00, 0, 1));
        let value = MasqueradeValue { v4: own.0.into(), v6: own.1.into(), flags: device_flags::FRONTENDS };
        datapath.maps().masquerade().insert(&if_nametoindex("mrt-client").unwrap(), &value).unwrap();
        let families = [
            (SECOND.pod.0, own.0, FIRST.own.0, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            (SECOND.pod.1, own.1, FIRST.own.1, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        ];
        for (service, (at, node, seen, any)) in (1..).zip(families) {
            let maps = first.datapath().maps();
            maps.node_addresses().insert(&node.into(), &0).unwrap();
            let listener = there.run(move || TcpListener::bind((at, 0)).unwrap());
            let port = Be16::new(listener.local_addr().unwrap().port());
            maps.backends().insert(&service, &BackendValue::active(at.into(), port, Protocol::Tcp)).unwrap();
            maps.slots().insert(&SlotKey { service, slot: 0 }, &service).unwrap();
            let value = ServiceValue { service, backends: 1, flags: ServiceFlags::EXTERNAL };
            let key = ServiceKey::new(any.into(), Be16::new(30080), Protocol::Tcp);
            maps.services().insert(&key, &value).unwrap();
            let to = SocketAddr::new(node, 30080);
            let connecting = client.start(move || connect(to).unwrap());
            let (served, peer) = accept(&listener).unwrap();
            assert_eq!(peer.ip(), seen, "an address that the tunnel leads back to");
            assert!(![CLIENT4, CLIENT6].contains(&peer.ip()));
            echo(&connecting.recv().unwrap(), &served);
        }
    });
}

/// The proxy keeps a pod's address towards a backend on another node.
#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_answers_to_a_kept_source_address_come_back_through_the_tunnel() {
    on_two_nodes("kernel_answers_to_a_kept_source_address_come_back_through_the_tunnel", |first, second| {
        let (_here, there) = ready(first, second, false);
        for (from, at) in ends() {
            let listener = there.run(move || TcpListener::bind((at, 0)).unwrap());
            let to = listener.local_addr().unwrap();
            let counted = first.counted(|_| {
                let socket = transparent(from);
                socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
                socket.connect_timeout(&to.into(), PATIENCE).unwrap();
                let stream = TcpStream::from(socket);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let (served, peer) = accept(&listener).unwrap();
                assert_eq!(peer.ip(), from);
                echo(&stream, &served);
            });
            assert!(counted["redirected_tc_established"] > 3, "{counted:?}");
        }
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_what_no_node_has_is_dropped_and_counted() {
    on_two_nodes("kernel_what_no_node_has_is_dropped_and_counted", |first, second| {
        let (here, _there) = ready(first, second, false);
        for (_, range) in ranges(SECOND) {
            first.datapath().maps().tunnels().remove(&range).unwrap();
        }
        let counted = first.counted(|_| {
            here.run(|| TcpStream::connect_timeout(&(SECOND.pod.0, 80).into(), IMPATIENCE).unwrap_err());
        });
        assert!(counted["dropped_tunnel"] > 0 && !counted.contains_key("tunnelled"), "{counted:?}");
    });
}
