//! Programs on real traffic: socket calls, socket lookup, and packets given to sockets.
//!
//! The kernel counts runs and nanoseconds of each program while its statistics are on. Reading the clock is part
//! of every figure, and of the empty program's, which is attached beside and sees as many calls or packets.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use aya::maps::MapInfo;
use aya::programs::{
    CgroupAttachMode, CgroupSockAddr, SchedClassifier, SkLookup, TcAttachType, loaded_programs,
};
use aya::sys::{Stats, enable_stats};
use aya::{Ebpf, EbpfLoader};
use mesh_ebpf_abi::Protocol;
use mesh_ebpf_loader::Device;
use mesh_ebpf_maps::names;

use crate::harness::{Node, VIP4, VIP6, accept, connect, object};
use crate::row::Row;

const ROUNDS: usize = 15;
const CONNECTIONS: usize = 300;
const EXCHANGES: usize = 2_000;
/// A Service that the kernel balances; the proxy's is at port 80.
const BALANCED: u16 = 81;

pub(crate) fn measure(node: &mut Node) -> Vec<Row> {
    let _statistics = enable_stats(Stats::RunTime).unwrap();
    let mut empty = EbpfLoader::new();
    let mut empty = empty.default_map_pin_directory(node.pin_root()).load_file(object()).unwrap();
    let mut rows = connections(node, &mut empty);
    rows.extend(datagrams(node, &mut empty));
    rows.push(local_connections(node, &mut empty));
    rows.push(assigned(node));
    rows
}

/// connect() and getpeername() of stream sockets.
fn connections(node: &mut Node, empty: &mut Ebpf) -> Vec<Row> {
    let mut rows = Vec::new();
    let peer = (hook(node, "mr_getpeername4"), attach_to_calls(node, empty, "mr_empty_peer4"));
    for (vip, loopback, program, beside) in [
        (VIP4, IpAddr::from(Ipv4Addr::LOCALHOST), "mr_connect4", "mr_empty_conn4"),
        (VIP6, Ipv6Addr::LOCALHOST.into(), "mr_connect6", "mr_empty_conn6"),
    ] {
        let ids = (hook(node, program), attach_to_calls(node, empty, beside));
        let backend = TcpListener::bind((loopback, 0)).unwrap();
        let direct = backend.local_addr().unwrap();
        let dialled = SocketAddr::from((vip, BALANCED));
        node.balanced_service(dialled, Protocol::Tcp, &[direct]);
        for (case, to) in
            [("connect() to a Service, balanced", dialled), ("connect() to anything else", direct)]
        {
            rows.push(row(program, ids, case, || {
                for _ in 0..CONNECTIONS {
                    drop((connect(to).unwrap(), accept(&backend).unwrap()));
                }
            }));
        }
        if vip == VIP4 {
            let stream = connect(dialled).unwrap();
            let ask = || (0..EXCHANGES).for_each(|_| assert_eq!(stream.peer_addr().unwrap(), dialled));
            rows.push(row("mr_getpeername4", peer, "getpeername() of a balanced socket", ask));
        }
    }
    rows
}

/// sendmsg() and recvmsg() of a datagram socket.
fn datagrams(node: &mut Node, empty: &mut Ebpf) -> Vec<Row> {
    let send = (hook(node, "mr_sendmsg4"), attach_to_calls(node, empty, "mr_empty_send4"));
    let receive = (hook(node, "mr_recvmsg4"), attach_to_calls(node, empty, "mr_empty_recv4"));
    let backend = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dialled = SocketAddr::from((VIP4, BALANCED));
    node.balanced_service(dialled, Protocol::Udp, &[backend.local_addr().unwrap()]);
    let home = client.local_addr().unwrap();
    let mut byte = [0; 1];
    let mut there = || {
        for _ in 0..EXCHANGES {
            client.send_to(b"a", dialled).unwrap();
            backend.recv(&mut byte).unwrap();
        }
    };
    let sent = row("mr_sendmsg4", send, "sendmsg() to a Service, balanced", &mut there);
    let mut byte = [0; 1];
    let back = || {
        for _ in 0..EXCHANGES {
            backend.send_to(b"b", home).unwrap();
            assert_eq!(client.recv_from(&mut byte).unwrap().1, dialled);
        }
    };
    vec![sent, row("mr_recvmsg4", receive, "recvmsg() from a Service", back)]
}

/// Connections to an address of the node that the proxy serves.
fn local_connections(node: &mut Node, empty: &mut Ebpf) -> Row {
    let own = IpAddr::from(Ipv4Addr::new(10, 0, 9, 9));
    crate::harness::ip(&format!("addr add {own}/32 dev lo"));
    node.proxy_service(own, 80);
    let proxy = node.proxy(1);
    let program: &mut SkLookup = empty.program_mut("mr_empty_sk").unwrap().try_into().unwrap();
    program.load().unwrap();
    program.attach(std::fs::File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
    let ids = (hook(node, "mr_sk_lookup"), program.info().unwrap().id());
    row("mr_sk_lookup", ids, "connection to the node's own address, to the proxy", || {
        for _ in 0..CONNECTIONS {
            drop((connect((own, 80).into()).unwrap(), accept(proxy[0].of(own)).unwrap()));
        }
    })
}

/// Requests and answers over a redirected connection: each packet of the client is given to the proxy's
/// socket, and each of the proxy goes by the empty program at the client.
fn assigned(node: &mut Node) -> Row {
    let client = node.namespace("mrt-live", (Ipv4Addr::new(10, 0, 2, 9).into(), "fd02::9".parse().unwrap()));
    node.datapath().attach(&Device::pod("mrt-live")).unwrap();
    let pin = node.pin_root().join("progs/mr_tc_empty");
    let beside = client.run(move || {
        let mut program = SchedClassifier::from_pin(pin).unwrap();
        program.attach("eth0", TcAttachType::Ingress).unwrap();
        program
    });
    let ours = SchedClassifier::from_pin(node.pin_root().join("progs/mr_tc_pod")).unwrap();
    let ids = (ours.info().unwrap().id(), beside.info().unwrap().id());
    let proxy = node.proxy(1);
    let dialled = SocketAddr::from((VIP4, 80));
    let connecting = client.start(move || connect(dialled).unwrap());
    let (mut served, _) = accept(proxy[0].of(VIP4)).unwrap();
    let mut stream = connecting.recv().unwrap();
    let traffic = || exchange(&mut stream, &mut served);
    let row = row("mr_tc_pod", ids, "IPv4 TCP: given to the proxy's connection", traffic);
    drop(beside);
    row
}

/// Attaches an empty program beside the node's own; its number.
fn attach_to_calls(node: &Node, object: &mut Ebpf, name: &str) -> u32 {
    let program: &mut CgroupSockAddr = object.program_mut(name).unwrap().try_into().unwrap();
    program.load().unwrap();
    let cgroup = std::fs::File::open(node.config().cgroup.unwrap()).unwrap();
    // As the loader does: a link lets others attach beside it whatever is asked for.
    program.attach(cgroup, CgroupAttachMode::Single).unwrap();
    program.info().unwrap().id()
}

/// The number of the node's own program of this name: the one that counts in the node's map.
fn hook(node: &Node, name: &str) -> u32 {
    let map = MapInfo::from_pin(node.pin_root().join(names::COUNTERS)).unwrap().id();
    let ours = loaded_programs().filter_map(Result::ok).find(|info| {
        let uses = |ids: Option<Vec<u32>>| ids.is_some_and(|ids| ids.contains(&map));
        info.name_as_str() == Some(name) && uses(info.map_ids().ok().flatten())
    });
    ours.expect("the node has loaded it").id()
}

/// Times one program and the empty one, by their numbers, over the same traffic.
fn row(program: &'static str, ids: (u32, u32), case: &str, mut traffic: impl FnMut()) -> Row {
    let rounds: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let before = (spent(ids.0), spent(ids.1));
            traffic();
            let after = (spent(ids.0), spent(ids.1));
            (a_run(before.0, after.0), a_run(before.1, after.1))
        })
        .collect();
    Row::of(program, case, "traffic", &rounds)
}

/// Runs and nanoseconds of a program so far.
fn spent(id: u32) -> (u64, u64) {
    let info = loaded_programs().filter_map(Result::ok).find(|info| info.id() == id);
    let info = info.expect("it stays loaded");
    (info.run_count(), u64::try_from(info.run_time().as_nanos()).expect("a run is short"))
}

fn a_run(before: (u64, u64), after: (u64, u64)) -> f64 {
    assert!(after.0 > before.0, "the program did not run");
    (after.1 - before.1) as f64 / (after.0 - before.0) as f64
}

fn exchange(stream: &mut TcpStream, served: &mut TcpStream) {
    let mut byte = [0; 1];
    for _ in 0..EXCHANGES {
        stream.write_all(b"a").unwrap();
        served.read_exact(&mut byte).unwrap();
        served.write_all(b"b").unwrap();
        stream.read_exact(&mut byte).unwrap();
    }
}
