//! Services that the kernel balances at the socket call.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use mesh_ebpf_abi::Protocol;
use mesh_ebpf_loader::DatapathConfig;
use socket2::{Domain, Socket, Type};

use crate::harness::{Node, PATIENCE, VIP4, VIP6, accept, connect, on_node};

fn loopback(of: IpAddr) -> IpAddr {
    if of.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_connection_to_a_service_goes_to_a_backend_and_its_peer_stays_the_service() {
    let name = "kernel_a_connection_to_a_service_goes_to_a_backend_and_its_peer_stays_the_service";
    on_node(name, |node| {
        node.load();
        for (vip, counter) in [(VIP4, "socket_lb_connect4"), (VIP6, "socket_lb_connect6")] {
            let backend = TcpListener::bind((loopback(vip), 0)).unwrap();
            let dialled = SocketAddr::from((vip, 80));
            node.balanced_service(dialled, Protocol::Tcp, &[backend.local_addr().unwrap()]);
            let counted = node.counted(|_| {
                let stream = connect(dialled).unwrap();
                let (served, peer) = accept(&backend).unwrap();
                assert_eq!(served.local_addr().unwrap(), backend.local_addr().unwrap());
                assert_eq!(peer, stream.local_addr().unwrap());
                assert_eq!(stream.peer_addr().unwrap(), dialled, "getpeername tells the service");
            });
            assert_eq!(counted[counter], 1, "{counted:?}");
            assert!(counted["socket_lb_getpeername"] >= 1, "{counted:?}");
        }
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_an_ipv6_socket_reaches_an_ipv4_service_by_its_mapped_address() {
    on_node("kernel_an_ipv6_socket_reaches_an_ipv4_service_by_its_mapped_address", |node| {
        node.load();
        let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        node.balanced_service((VIP4, 80).into(), Protocol::Tcp, &[backend.local_addr().unwrap()]);
        let IpAddr::V4(v4) = VIP4 else { unreachable!() };
        let mapped = SocketAddr::from((v4.to_ipv6_mapped(), 80));
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.connect_timeout(&mapped.into(), PATIENCE).unwrap();
        accept(&backend).unwrap();
        assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(mapped));
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_connections_spread_over_backends() {
    on_node("kernel_connections_spread_over_backends", |node| {
        node.load();
        let backends: Vec<_> = (0..4).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let addresses: Vec<_> = backends.iter().map(|backend| backend.local_addr().unwrap()).collect();
        node.balanced_service((VIP4, 80).into(), Protocol::Tcp, &addresses);
        let streams: Vec<_> = (0..100).map(|_| connect((VIP4, 80).into()).unwrap()).collect();
        let counts: Vec<_> = backends
            .iter()
            .map(|backend| {
                backend.set_nonblocking(true).unwrap();
                std::iter::from_fn(|| backend.accept().ok()).count()
            })
            .collect();
        assert_eq!(counts.iter().sum::<usize>(), streams.len());
        // 25 expected; below 5 has a chance of one in 10 million.
        assert!(counts.iter().all(|count| *count >= 5), "{counts:?}");
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_service_without_backends_refuses_at_once() {
    on_node("kernel_a_service_without_backends_refuses_at_once", |node| {
        node.load();
        for vip in [VIP4, VIP6] {
            node.balanced_service((vip, 80).into(), Protocol::Tcp, &[]);
            let counted = node.counted(|_| {
                let error = connect((vip, 80).into()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            });
            assert_eq!(counted["socket_lb_no_backend"], 1, "{counted:?}");
        }
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_datagrams_go_to_one_backend_and_replies_come_from_the_service() {
    on_node("kernel_datagrams_go_to_one_backend_and_replies_come_from_the_service", |node| {
        node.load();
        for vip in [VIP4, VIP6] {
            let any = loopback(vip);
            let backends: Vec<_> = (0..3).map(|_| UdpSocket::bind((any, 0)).unwrap()).collect();
            let addresses: Vec<_> = backends.iter().map(|backend| backend.local_addr().unwrap()).collect();
            let dialled = SocketAddr::from((vip, 53));
            node.balanced_service(dialled, Protocol::Udp, &addresses);

            let client = UdpSocket::bind((any, 0)).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            for _ in 0..5 {
                assert_eq!(client.send_to(b"question", dialled).unwrap(), 8);
            }
            let mut asked = Vec::new();
            for backend in &backends {
                backend.set_nonblocking(true).unwrap();
                let mut buffer = [0; 16];
                while let Ok((_, peer)) = backend.recv_from(&mut buffer) {
                    assert_eq!(peer, client.local_addr().unwrap());
                    asked.push(backend);
                }
            }
            assert_eq!(asked.len(), 5);
            assert!(asked.iter().all(|backend| std::ptr::eq(*backend, asked[0])), "one socket, one backend");
            asked[0].send_to(b"answer", client.local_addr().unwrap()).unwrap();
            let (length, from) = client.recv_from(&mut [0; 16]).unwrap();
            assert_eq!((length, from), (6, dialled));
        }
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_datagram_socket_that_connects_keeps_the_service_as_its_peer() {
    on_node("kernel_a_datagram_socket_that_connects_keeps_the_service_as_its_peer", |node| {
        node.load();
        let backend = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        backend.set_read_timeout(Some(PATIENCE)).unwrap();
        let dialled = SocketAddr::from((VIP4, 53));
        node.balanced_service(dialled, Protocol::Udp, &[backend.local_addr().unwrap()]);
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.connect(dialled).unwrap();
        client.send(b"question").unwrap();
        let (_, peer) = backend.recv_from(&mut [0; 16]).unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(client.peer_addr().unwrap(), dialled);
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_without_the_hooks_a_service_address_leads_nowhere() {
    on_node("kernel_without_the_hooks_a_service_address_leads_nowhere", |node| {
        node.load();
        let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        node.balanced_service((VIP4, 80).into(), Protocol::Tcp, &[backend.local_addr().unwrap()]);
        connect((VIP4, 80).into()).unwrap();
        let off = DatapathConfig { socket_lb: false, ..node.config() };
        let plan = mesh_ebpf_loader::plan(&off, &mesh_ebpf_loader::KernelFeatures::probe()).unwrap();
        node.load_plan(&plan);
        let error = connect((VIP4, 80).into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable, "{error}");
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_with_host_only_sockets_of_pods_are_left_alone() {
    on_node("kernel_with_host_only_sockets_of_pods_are_left_alone", |node| {
        let config = DatapathConfig { socket_lb_host_only: true, ..node.config() };
        let plan = mesh_ebpf_loader::plan(&config, &mesh_ebpf_loader::KernelFeatures::probe()).unwrap();
        node.load_plan(&plan);
        let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        node.balanced_service((VIP4, 80).into(), Protocol::Tcp, &[backend.local_addr().unwrap()]);
        connect((VIP4, 80).into()).expect("this namespace is the node's");
        let counted = node.counted(leave_the_node);
        assert_eq!(counted.get("socket_lb_connect4"), None, "{counted:?}");
    });
}

/// Makes this thread a pod's and dials; it stays in its cgroup, with the hooks.
fn leave_the_node(_: &mut Node) {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let error = connect((VIP4, 80).into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable, "{error}");
}
