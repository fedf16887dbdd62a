//! Packets through the packet programs.

use std::net::{IpAddr, SocketAddr};

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use mesh_ebpf_abi::constants::UPSTREAM_PORTS;
use mesh_ebpf_abi::{
    Be16, Family, MasqueradeValue, NetKey, Protocol, ServiceFlags, ServiceKey, ServiceValue, device_flags,
    net_flags,
};
use mesh_ebpf_loader::Device;
use mesh_ebpf_maps::LoadBalancerMaps;

use crate::harness::{BACKEND4, BACKEND6, CLIENT4, CLIENT6, Node, VIP4, VIP6, accept, connect};
use crate::packet::Packet;
use crate::row::Row;

const ROUNDS: usize = 21;
const REPEAT: u32 = 100_000;
const ACK: u8 = 0x10;
/// A port that pods choose by themselves.
const USUAL: u16 = 40000;

pub(crate) fn measure(node: &mut Node) -> Vec<Row> {
    node.load();
    for vip in [VIP4, VIP6] {
        node.proxy_service(vip, 80);
    }
    let _proxy = node.proxy(2);
    let mut rows = Vec::new();
    let mut udp = Packet::to(VIP4, 80).ethernet();
    udp[14 + 9] = 17;
    rows.push(case(node, "mr_tc_pod", "UDP: passed on", &udp));
    for (family, backend, vip) in [("IPv4", BACKEND4, VIP4), ("IPv6", BACKEND6, VIP6)] {
        let direct = |port| Packet::to(backend, 8080).with_source_port(port).with_flags(ACK);
        let borrowed = UPSTREAM_PORTS.0;
        for program in ["mr_tc_ingress", "mr_tc_pod"] {
            let case_of = |what: &str| format!("{family} TCP: {what}");
            let frame = direct(USUAL).ethernet();
            rows.push(case(node, program, case_of("none of ours, passed on"), &frame));
            let frame = direct(USUAL).reversed().ethernet();
            rows.push(case(node, program, case_of("its answer, passed on"), &frame));
            let frame = Packet::to(vip, 80).ethernet();
            rows.push(case(
                node,
                program,
                case_of("new, to a service of the proxy, up to the assignment"),
                &frame,
            ));
        }
        let what = format!("{family} TCP: a pod's own flow from a port the proxy borrows");
        rows.push(case(node, "mr_tc_pod", what, &direct(borrowed).ethernet()));
        let what = format!("{family} TCP: the answer to that");
        rows.push(case(node, "mr_tc_pod", what, &direct(borrowed).reversed().ethernet()));
    }
    rows.extend(beside_masquerading(node));
    rows.extend(beside_frontends(node));
    rows.push(with_many_services(node));
    rows.push(established(node));
    rows
}

/// What masquerading costs packets that it leaves alone. Those that it changes cannot be measured so: the second run
/// would meet what the first one made of them.
fn beside_masquerading(node: &mut Node) -> Vec<Row> {
    // The device that packets of a test run come by.
    const LOOPBACK: u32 = 1;
    let maps = node.datapath().maps();
    let flags = device_flags::PODS_V4 | device_flags::PODS_V6;
    let own = MasqueradeValue { v4: CLIENT4.into(), v6: CLIENT6.into(), flags };
    maps.masquerade().insert(&LOOPBACK, &own).unwrap();
    let pods = NetKey { bits: 96 + 24, address: IpAddr::from([10, 244, 1, 0]).into() };
    maps.nets().insert(&pods, &net_flags::POD).unwrap();
    let mut rows = Vec::new();
    for (family, backend) in [("IPv4", BACKEND4), ("IPv6", BACKEND6)] {
        let out = Packet::to(backend, 8080).with_source_port(USUAL).with_flags(ACK);
        let case_of = |what: &str| format!("{family} TCP, masquerading device: {what}");
        let frame = out.ethernet();
        rows.push(case(node, "mr_tc_egress", case_of("the node's own leaves"), &frame));
        let frame = out.reversed().ethernet();
        rows.push(case(node, "mr_tc_ingress", case_of("the node's own is answered"), &frame));
    }
    node.datapath().maps().masquerade().remove(&LOOPBACK).unwrap();
    rows
}

/// What frontends cost packets that are for none of them.
fn beside_frontends(node: &mut Node) -> Vec<Row> {
    const LOOPBACK: u32 = 1;
    let maps = node.datapath().maps();
    let own = MasqueradeValue { v4: CLIENT4.into(), v6: CLIENT6.into(), flags: device_flags::FRONTENDS };
    maps.masquerade().insert(&LOOPBACK, &own).unwrap();
    let value = ServiceValue { service: u32::MAX, backends: 1, flags: ServiceFlags::EXTERNAL };
    for family in [Family::V4, Family::V6] {
        let key = ServiceKey::new(family.any(), Be16::new(30080), Protocol::Tcp);
        maps.services().insert(&key, &value).unwrap();
    }
    let mut rows = Vec::new();
    for (family, backend) in [("IPv4", BACKEND4), ("IPv6", BACKEND6)] {
        let out = Packet::to(backend, 8080).with_source_port(USUAL).with_flags(ACK);
        let case_of = |what: &str| format!("{family} TCP, device with frontends: {what}");
        let frame = out.ethernet();
        rows.push(case(node, "mr_tc_egress", case_of("the node's own leaves"), &frame));
        rows.push(case(node, "mr_tc_ingress", case_of("for others, passed on"), &frame));
        let frame = out.reversed().ethernet();
        rows.push(case(node, "mr_tc_ingress", case_of("the node's own is answered"), &frame));
    }
    node.datapath().maps().masquerade().remove(&LOOPBACK).unwrap();
    rows
}

/// The same packet with 10,000 services as with two.
fn with_many_services(node: &mut Node) -> Row {
    let value = ServiceValue { service: u32::MAX, backends: 1, flags: ServiceFlags::NONE };
    for number in 0..10_000_u32 {
        let address = std::net::Ipv4Addr::from_bits(0x0a60_0100 + number);
        let key = ServiceKey::new(address.into(), Be16::new(80), Protocol::Tcp);
        node.datapath().maps().services().insert(&key, &value).unwrap();
    }
    let frame = Packet::to(BACKEND4, 8080).with_flags(ACK).ethernet();
    case(node, "mr_tc_pod", "IPv4 TCP: none of ours, with 10,000 services", &frame)
}

/// A packet of a connection that the proxy has taken.
fn established(node: &mut Node) -> Row {
    let client = node.client();
    node.datapath().attach(&Device::pod("mrt-client")).unwrap();
    let proxy = node.proxy(1);
    let dialled = SocketAddr::from((VIP4, 80));
    let connecting = client.start(move || connect(dialled).unwrap());
    let (_served, peer) = accept(proxy[0].of(VIP4)).unwrap();
    let _stream = connecting.recv().unwrap();
    assert_eq!(peer.ip(), CLIENT4 as IpAddr);
    let frame = Packet::to(VIP4, 80).with_source_port(peer.port()).with_flags(ACK).ethernet();
    case(node, "mr_tc_pod", "IPv4 TCP: of the proxy's connection, up to the assignment", &frame)
}

fn case(node: &Node, program: &'static str, case: impl Into<String>, frame: &[u8]) -> Row {
    let (measured, empty) = (program_of(node, program), program_of(node, "mr_tc_empty"));
    let run = |program: &SchedClassifier| {
        let options = TestRunOptions { data_in: Some(frame), repeat: REPEAT, ..TestRunOptions::default() };
        program.test_run(options).unwrap().duration.as_nanos() as f64
    };
    run(&measured);
    let rounds: Vec<_> = (0..ROUNDS).map(|_| (run(&measured), run(&empty))).collect();
    Row::of(program, case, "test-run", &rounds)
}

fn program_of(node: &Node, name: &str) -> SchedClassifier {
    SchedClassifier::from_pin(node.pin_root().join("progs").join(name)).unwrap()
}
