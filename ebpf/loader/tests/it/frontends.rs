//! Services that clients reach by packets: ports of the node from outside, and pods whose sockets are left alone.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use mesh_ebpf_abi::{
    BackendValue, Be16, Family, MasqueradeValue, Protocol, ServiceFlags, ServiceKey, ServiceValue, SlotKey,
    device_flags,
};
use mesh_ebpf_loader::{DatapathConfig, Device, KernelFeatures, plan};
use mesh_ebpf_maps::LoadBalancerMaps;
use nix::net::if_::if_nametoindex;

use crate::harness::{
    BACKEND4, BACKEND6, CLIENT4, CLIENT6, IMPATIENCE, Namespace, Node, PATIENCE, VIP4, VIP6, accept, connect,
    on_node,
};

const OUTSIDE: &str = "mrt-client";
const INSIDE: &str = "mrt-backend";
const PORT: u16 = 30080;
/// The node's addresses towards the client, and towards the backend.
const NODE4: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1))];
const NODE6: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1)),
];

/// One family: the client, the backend, the node's addresses, and what stands for all of those.
type Ends = (IpAddr, IpAddr, [IpAddr; 2], IpAddr);

fn ends() -> [Ends; 2] {
    let any = |family: Family| family.any().to_ip();
    [(CLIENT4, BACKEND4, NODE4, any(Family::V4)), (CLIENT6, BACKEND6, NODE6, Ipv6Addr::UNSPECIFIED.into())]
}

/// A client outside and a backend; whether that is a pod of the node or lies beyond another device to the outside.
fn ready(node: &mut Node, is_elsewhere: bool) -> (Namespace, Namespace) {
    node.load();
    for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{switch}"), "1").unwrap();
    }
    let (client, backend) = (node.client(), node.backend());
    // Outside there are no socket hooks of this node's.
    let beside = node.config().cgroup.unwrap().parent().unwrap().join("cgroup.threads");
    client.run(move || std::fs::write(beside, nix::unistd::gettid().to_string()).unwrap());
    let maps = node.datapath().maps();
    for address in NODE4.iter().chain(&NODE6) {
        maps.node_addresses().insert(&(*address).into(), &0).unwrap();
    }
    let outside = if is_elsewhere { &[OUTSIDE, INSIDE][..] } else { &[OUTSIDE] };
    for (number, device) in outside.iter().enumerate() {
        node.datapath().attach(&Device::ethernet(*device)).unwrap();
        let (v4, v6) = (NODE4[number].into(), NODE6[number].into());
        let value = MasqueradeValue { v4, v6, flags: device_flags::FRONTENDS };
        let index = if_nametoindex(*device).unwrap();
        node.datapath().maps().masquerade().insert(&index, &value).unwrap();
    }
    (client, backend)
}

/// Writes a service as the agent does.
fn offer(
    node: &mut Node,
    (address, scope): (SocketAddr, u8),
    protocol: Protocol,
    flags: ServiceFlags,
    backends: &[SocketAddr],
) {
    let service = u32::from(address.port()) * 16
        + u32::from(scope) * 8
        + u32::from(protocol as u8 & 4)
        + u32::from(address.is_ipv6());
    let maps = node.datapath().maps();
    for (slot, backend) in (0..).zip(backends) {
        let id = service * 16 + slot + 1;
        let value = BackendValue::active(backend.ip().into(), Be16::new(backend.port()), protocol);
        maps.backends().insert(&id, &value).unwrap();
        maps.slots().insert(&SlotKey { service, slot }, &id).unwrap();
    }
    let key =
        ServiceKey { scope, ..ServiceKey::new(address.ip().into(), Be16::new(address.port()), protocol) };
    let value = ServiceValue { service, backends: backends.len().try_into().unwrap(), flags };
    maps.services().insert(&key, &value).unwrap();
}

fn udp(at: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((at, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn echo(mut one: &TcpStream, mut other: &TcpStream) {
    let words = vec![7; 200_000];
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

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_port_of_the_node_leads_to_its_own_pod_which_sees_the_client() {
    on_node("kernel_a_port_of_the_node_leads_to_its_own_pod_which_sees_the_client", |node| {
        let (client, backend) = ready(node, false);
        for (from, at, own, any) in ends() {
            let listener = backend.run(move || TcpListener::bind((at, 0)).unwrap());
            let pod = listener.local_addr().unwrap();
            offer(node, (SocketAddr::new(any, PORT), 0), Protocol::Tcp, ServiceFlags::EXTERNAL, &[pod]);
            for address in own {
                let counted = node.counted(|_| {
                    let connecting = client.start(move || connect((address, PORT).into()).unwrap());
                    let (served, peer) = accept(&listener).unwrap();
                    assert_eq!(peer.ip(), from);
                    let stream = connecting.recv().unwrap();
                    assert_eq!(stream.peer_addr().unwrap(), (address, PORT).into());
                    echo(&stream, &served);
                });
                assert!(counted["balanced_tc"] > 3 && counted["answered_tc"] > 3, "{counted:?}");
                assert!(!counted.contains_key("masqueraded"), "{counted:?}");
            }
        }
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_port_of_the_node_leads_elsewhere_with_the_nodes_address() {
    on_node("kernel_a_port_of_the_node_leads_elsewhere_with_the_nodes_address", |node| {
        let (client, backend) = ready(node, true);
        for (from, at, own, any) in ends() {
            let listener = backend.run(move || TcpListener::bind((at, 0)).unwrap());
            let server = backend.run(move || udp(at));
            let there = (listener.local_addr().unwrap(), server.local_addr().unwrap());
            offer(node, (SocketAddr::new(any, PORT), 0), Protocol::Tcp, ServiceFlags::EXTERNAL, &[there.0]);
            offer(node, (SocketAddr::new(any, PORT), 0), Protocol::Udp, ServiceFlags::EXTERNAL, &[there.1]);
            let counted = node.counted(|_| {
                let connecting = client.start(move || connect((own[0], PORT).into()).unwrap());
                let (served, peer) = accept(&listener).unwrap();
                assert_eq!(peer.ip(), own[1], "so that answers come back by this node");
                echo(&connecting.recv().unwrap(), &served);
            });
            assert!(counted["masqueraded"] > 3 && counted["unmasqueraded"] > 3, "{counted:?}");
            // Datagrams, in fragments too.
            let socket = client.run(move || udp(from));
            for size in [10, 1400, 4000] {
                let words = vec![size as u8; size];
                socket.send_to(&words, (own[0], PORT)).unwrap();
                let mut heard = vec![0; 10_000];
                let (length, peer) = server.recv_from(&mut heard).unwrap();
                assert_eq!((length, peer.ip()), (size, own[1]), "{size} bytes");
                server.send_to(&heard[..length], peer).unwrap();
                let (length, peer) = socket.recv_from(&mut heard).unwrap();
                assert_eq!(
                    (&heard[..length], peer),
                    (&words[..], (own[0], PORT).into()),
                    "{size} bytes back"
                );
            }
        }
    });
}

/// Asks by UDP where nobody listens any more.
fn ask_nobody(node: &mut Node, is_elsewhere: bool) {
    let (client, backend) = ready(node, is_elsewhere);
    for (from, at, own, any) in ends() {
        let closed = backend.run(move || udp(at).local_addr().unwrap());
        offer(node, (SocketAddr::new(any, PORT), 0), Protocol::Udp, ServiceFlags::EXTERNAL, &[closed]);
        let error = client.run(move || {
            let socket = udp(from);
            socket.connect((own[0], PORT)).unwrap();
            socket.send(b"anybody?").unwrap();
            socket.recv(&mut [0; 10]).unwrap_err()
        });
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{at}");
    }
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_errors_of_a_pod_reach_the_client_from_the_port_it_asked() {
    on_node("kernel_errors_of_a_pod_reach_the_client_from_the_port_it_asked", |node| ask_nobody(node, false));
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_errors_of_a_backend_elsewhere_reach_the_client_too() {
    on_node("kernel_errors_of_a_backend_elsewhere_reach_the_client_too", |node| ask_nobody(node, true));
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_what_is_for_this_node_alone_or_has_no_backend_is_refused() {
    on_node("kernel_what_is_for_this_node_alone_or_has_no_backend_is_refused", |node| {
        let (client, backend) = ready(node, false);
        let local = ServiceFlags::EXTERNAL.with(ServiceFlags::EXTERNAL_LOCAL);
        for (_, at, own, any) in ends() {
            let listener = backend.run(move || TcpListener::bind((at, 0)).unwrap());
            let there = listener.local_addr().unwrap();
            offer(node, (SocketAddr::new(any, PORT), 0), Protocol::Tcp, ServiceFlags::EXTERNAL, &[]);
            let refused = client.run(move || connect((own[0], PORT).into()).unwrap_err());
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "the stack says so");

            offer(node, (SocketAddr::new(any, PORT), 0), Protocol::Tcp, local, &[there]);
            offer(node, (SocketAddr::new(any, PORT), ServiceKey::OUTSIDE), Protocol::Tcp, local, &[]);
            let dropped = node.counted(|_| {
                let late = client.run(move || TcpStream::connect_timeout(&(own[0], PORT).into(), IMPATIENCE));
                assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
            });
            assert!(dropped["dropped_tc_no_backend"] > 0, "{dropped:?}");
            // The node itself gets all backends, by any of its addresses.
            let loopback: IpAddr =
                if at.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            for address in [own[0], own[1], loopback] {
                let stream = connect((address, PORT).into()).unwrap();
                let (served, _) = accept(&listener).unwrap();
                assert_eq!(stream.peer_addr().unwrap(), (address, PORT).into());
                echo(&stream, &served);
            }
            offer(node, (SocketAddr::new(any, PORT), ServiceKey::OUTSIDE), Protocol::Tcp, local, &[there]);
            let connecting = client.start(move || connect((own[0], PORT).into()).unwrap());
            let (served, _) = accept(&listener).unwrap();
            echo(&connecting.recv().unwrap(), &served);
        }
        // A Service's cluster address is not for the outside.
        let counted = node.counted(|node| {
            let to = SocketAddr::new(VIP4, 80);
            offer(node, (to, 0), Protocol::Tcp, ServiceFlags::NONE, &[SocketAddr::new(BACKEND4, 80)]);
            client.run(move || TcpStream::connect_timeout(&to, IMPATIENCE)).unwrap_err();
        });
        assert!(!counted.contains_key("balanced_tc"), "{counted:?}");
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_connection_outlives_the_agent_and_a_change_of_backends() {
    on_node("kernel_a_connection_outlives_the_agent_and_a_change_of_backends", |node| {
        let (client, backend) = ready(node, true);
        for (_, at, own, any) in ends() {
            let open = (SocketAddr::new(any, PORT), 0);
            let listeners = backend.run(move || [(); 2].map(|()| TcpListener::bind((at, 0)).unwrap()));
            let [first, second] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
            offer(node, open, Protocol::Tcp, ServiceFlags::EXTERNAL, &[first]);
            let connecting = client.start(move || connect((own[0], PORT).into()).unwrap());
            let (served, _) = accept(&listeners[0]).unwrap();
            let stream = connecting.recv().unwrap();
            echo(&stream, &served);
            node.datapath = None;
            echo(&stream, &served);
            node.load();
            offer(node, open, Protocol::Tcp, ServiceFlags::EXTERNAL, &[second]);
            echo(&stream, &served);
            let connecting = client.start(move || connect((own[0], PORT).into()).unwrap());
            let (served, _) = accept(&listeners[1]).unwrap();
            echo(&connecting.recv().unwrap(), &served);
        }
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_pods_whose_sockets_are_left_alone_reach_services_by_packets() {
    on_node("kernel_pods_whose_sockets_are_left_alone_reach_services_by_packets", |node| {
        let config = DatapathConfig { socket_lb_host_only: true, ..node.config() };
        node.load_plan(&plan(&config, &KernelFeatures::probe()).unwrap());
        for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{switch}"), "1").unwrap();
        }
        let (client, backend) = (node.client(), node.backend());
        for device in [OUTSIDE, INSIDE] {
            node.datapath().attach(&Device::pod(device)).unwrap();
        }
        for ((from, at, ..), vip) in ends().into_iter().zip([VIP4, VIP6]) {
            let listener = backend.run(move || TcpListener::bind((at, 0)).unwrap());
            let server = backend.run(move || udp(at));
            let there = (listener.local_addr().unwrap(), server.local_addr().unwrap());
            let to = SocketAddr::new(vip, 80);
            offer(node, (to, 0), Protocol::Tcp, ServiceFlags::NONE, &[there.0]);
            offer(node, (to, 0), Protocol::Udp, ServiceFlags::NONE, &[there.1]);
            let connecting = client.start(move || connect(to).unwrap());
            let (served, peer) = accept(&listener).unwrap();
            assert_eq!(peer.ip(), from);
            echo(&connecting.recv().unwrap(), &served);
            let socket = client.run(move || udp(from));
            for size in [10, 4000] {
                socket.send_to(&vec![1; size], to).unwrap();
                let mut heard = vec![0; 10_000];
                let (length, peer) = server.recv_from(&mut heard).unwrap();
                server.send_to(&heard[..length], peer).unwrap();
                assert_eq!(socket.recv_from(&mut heard).unwrap(), (size, to), "answered by whom it asked");
            }
        }
    });
}
