//! Programs on real traffic: socket calls, and packets given to sockets.
//!
//! The kernel counts runs and nanoseconds of each program while its statistics are on. Reading the clock is part
//! of every figure, and of the empty program's, which is attached beside and sees as many calls or packets.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use aya::maps::MapInfo;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, SchedClassifier, TcAttachType, loaded_programs};
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
    let mut rows = Vec::new();
    for (vip, loopback, program, beside) in [
        (VIP4, IpAddr::from(Ipv4Addr::LOCALHOST), "mr_connect4", "mr_empty4"),
        (VIP6, Ipv6Addr::LOCALHOST.into(), "mr_connect6", "mr_empty6"),
    ] {
        let ids = (hook(node, program), attach_to_calls(node, &mut empty, beside));
        let backend = TcpListener::bind((loopback, 0)).unwrap();
        let direct = backend.local_addr().unwrap();
        let dialled = SocketAddr::from((vip, BALANCED));
        node.balanced_service(dialled, Protocol::Tcp, &[direct]);
        for (case, to) in
            [("connect() to a Service, balanced", dialled), ("connect() to anything else", direct)]
        {
            let traffic = || {
                for _ in 0..CONNECTIONS {
                    drop((connect(to).unwrap(), accept(&backend).unwrap()));
                }
            };
            rows.push(row(program, ids, case, traffic));
        }
    }
    rows.push(assigned(node));
    rows
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

/// The number of the node's own program of this name: the one that uses the node's maps.
fn hook(node: &Node, name: &str) -> u32 {
    let map = MapInfo::from_pin(node.pin_root().join(names::SERVICES)).unwrap().id();
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
