//! The packet program on hand-made packets.
//!
//! BPF_PROG_TEST_RUN is no ingress, so the kernel refuses the assignment itself: that a packet would have
//! been assigned shows in the counter of refused assignments. `redirect.rs` has the real ones.

use std::collections::BTreeMap;

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};

use crate::harness::{Node, VIP4, VIP6, on_node};
use crate::packet::Packet;

const ASSIGNED: &str = "dropped_tc_assign_failed";
const SHOT: i32 = 2;
const UNSPEC: i32 = -1;

pub(crate) fn run(node: &mut Node, program: &str, packet: &[u8]) -> (i32, BTreeMap<&'static str, u64>) {
    let path = node.pin_root().join("progs").join(program);
    let program = SchedClassifier::from_pin(path).unwrap();
    let mut verdict = 0;
    let counted = node.counted(|_| {
        let options = TestRunOptions { data_in: Some(packet), ..TestRunOptions::default() };
        verdict = program.test_run(options).unwrap().return_value as i32;
    });
    (verdict, counted)
}

fn check(node: &mut Node, what: &str, packet: &[u8], verdict: i32, counter: &'static str) {
    let expected = (verdict, BTreeMap::from([(counter, 1)]));
    assert_eq!(run(node, "mr_tc_ingress", packet), expected, "{what}");
}

fn ready(node: &mut Node) {
    node.load();
    for vip in [VIP4, VIP6] {
        node.proxy_service(vip, 80);
    }
}

/// Destination options header of eight bytes that says TCP comes next.
const EXTENSION: [u8; 8] = [6, 0, 1, 4, 0, 0, 0, 0];

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_packets_to_services_of_the_proxy_are_assigned() {
    on_node("kernel_packets_to_services_of_the_proxy_are_assigned", |node| {
        ready(node);
        let _proxy = node.proxy(2);
        for vip in [VIP4, VIP6] {
            check(node, "plain", &Packet::to(vip, 80).ethernet(), SHOT, ASSIGNED);
        }
        let options = Packet::to(VIP4, 80).with_options(&[1; 40]).ethernet();
        check(node, "IPv4 options", &options, SHOT, ASSIGNED);
        let extension = Packet::to(VIP6, 80).with_options(&EXTENSION).ethernet();
        check(node, "IPv6 extension header", &extension, SHOT, ASSIGNED);
        for vip in [VIP4, VIP6] {
            let (verdict, counted) = run(node, "mr_tc_ingress_l3", &Packet::to(vip, 80).ip());
            assert_eq!((verdict, counted), (SHOT, BTreeMap::from([(ASSIGNED, 1)])), "no Ethernet header");
        }
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_packets_for_others_pass_untouched() {
    on_node("kernel_packets_for_others_pass_untouched", |node| {
        ready(node);
        let _proxy = node.proxy(1);
        for vip in [VIP4, VIP6] {
            let other = "passed_tc_other";
            check(node, "another port", &Packet::to(vip, 81).ethernet(), UNSPEC, other);
        }
        let mut udp = Packet::to(VIP4, 80).ethernet();
        udp[14 + 9] = 17;
        check(node, "UDP", &udp, UNSPEC, "passed_tc_not_tcp");
        let mut arp = vec![2; 60];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        check(node, "ARP", &arp, UNSPEC, "passed_tc_not_tcp");
        for fragment in [[0x20, 0], [0x20, 1], [0, 1]] {
            let mut packet = Packet::to(VIP4, 80).ethernet();
            packet[14 + 6..14 + 8].copy_from_slice(&fragment);
            check(node, "IPv4 fragment", &packet, UNSPEC, "passed_tc_fragment");
        }
        let mut fragment = Packet::to(VIP6, 80).with_options(&EXTENSION).ethernet();
        fragment[14 + 6] = 44;
        check(node, "IPv6 fragment", &fragment, UNSPEC, "passed_tc_fragment");
        let mut chain = Vec::new();
        for _ in 0..7 {
            chain.extend([60, 0, 1, 4, 0, 0, 0, 0]);
        }
        let long = Packet::to(VIP6, 80).with_options(&chain).ethernet();
        check(node, "too many extension headers", &long, UNSPEC, "passed_tc_not_tcp");
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_short_and_broken_packets_pass_untouched() {
    on_node("kernel_short_and_broken_packets_pass_untouched", |node| {
        ready(node);
        let _proxy = node.proxy(1);
        let malformed = "passed_tc_malformed";
        for vip in [VIP4, VIP6] {
            let whole = Packet::to(vip, 80).ethernet();
            // BPF_PROG_TEST_RUN takes no frame without its IP header; the logic's own tests cut shorter.
            let header = if vip.is_ipv4() { 20 } else { 40 };
            for length in 14 + header..whole.len() {
                check(node, &format!("{length} bytes"), &whole[..length], UNSPEC, malformed);
            }
        }
        let mut header = Packet::to(VIP4, 80).ethernet();
        header[14] = 0x44;
        check(node, "IPv4 header of 16 bytes", &header, UNSPEC, malformed);
        let mut offset = Packet::to(VIP4, 80).ethernet();
        offset[14 + 20 + 12] = 4 << 4;
        check(node, "TCP header of 16 bytes", &offset, UNSPEC, malformed);
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_without_a_listener_services_of_the_proxy_are_dropped() {
    on_node("kernel_without_a_listener_services_of_the_proxy_are_dropped", |node| {
        ready(node);
        let dropped = "dropped_tc_no_listener";
        check(node, "no proxy yet", &Packet::to(VIP4, 80).ethernet(), SHOT, dropped);
        drop(node.proxy(1));
        check(node, "its sockets are closed", &Packet::to(VIP4, 80).ethernet(), SHOT, dropped);
        node.datapath().set_listeners(&[]).unwrap();
        check(node, "taken out", &Packet::to(VIP6, 80).ethernet(), SHOT, dropped);
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_the_nodes_own_addresses_are_left_to_the_stack() {
    on_node("kernel_the_nodes_own_addresses_are_left_to_the_stack", |node| {
        use mesh_ebpf_maps::LoadBalancerMaps;
        ready(node);
        let _proxy = node.proxy(1);
        node.datapath().maps().node_addresses().insert(&VIP4.into(), &0).unwrap();
        check(node, "own", &Packet::to(VIP4, 80).ethernet(), UNSPEC, "passed_tc_node_address");
        check(node, "other", &Packet::to(VIP6, 80).ethernet(), SHOT, ASSIGNED);
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_the_empty_program_counts_nothing() {
    on_node("kernel_the_empty_program_counts_nothing", |node| {
        ready(node);
        let packet = Packet::to(VIP4, 80).ethernet();
        assert_eq!(run(node, "mr_tc_empty", &packet), (UNSPEC, BTreeMap::new()));
    });
}
