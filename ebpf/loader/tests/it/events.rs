//! What the programs report.

use mesh_ebpf_abi::events::{Event, decode};
use mesh_ebpf_abi::{Be16, Counter, DropReason, Protocol};
use mesh_ebpf_loader::{DatapathConfig, KernelFeatures, plan};
use mesh_ebpf_maps::PinnedMaps;

use crate::harness::{CLIENT6, Node, VIP6, on_node};
use crate::masquerade::{datagram, masquerade_loopback};
use crate::packet::Packet;
use crate::packets::run;

fn drop_packets(node: &mut Node, event_sampling: u32, packets: usize) -> Vec<Event> {
    let config = DatapathConfig { event_sampling, ..node.config() };
    node.load_plan(&plan(&config, &KernelFeatures::probe()).unwrap());
    node.proxy_service(VIP6, 80);
    let mut ring = PinnedMaps::open_events(&node.pin_root()).unwrap();
    for _ in 0..packets {
        run(node, "mr_tc_ingress", &Packet::to(VIP6, 80).ethernet());
    }
    std::iter::from_fn(|| ring.next().map(|bytes| decode(&bytes).unwrap())).collect()
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_drop_is_reported_with_both_ends_and_its_reason() {
    on_node("kernel_a_drop_is_reported_with_both_ends_and_its_reason", |node| {
        let events = drop_packets(node, 1, 1);
        let [Event::Drop(reason, event)] = events[..] else { panic!("{events:?}") };
        assert_eq!(reason, DropReason::NoListener);
        assert_eq!((event.source.to_ip(), event.destination.to_ip()), (CLIENT6, VIP6));
        assert_eq!((event.source_port, event.destination_port), (Be16::new(40000), Be16::new(80)));
        assert_eq!(u32::from(event.counter), Counter::DroppedTcNoListener as u32);
        assert!(event.timestamp > 0);
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_drop_is_reported_with_the_packets_own_protocol() {
    on_node("kernel_a_drop_is_reported_with_the_packets_own_protocol", |node| {
        let config = DatapathConfig { event_sampling: 1, ..node.config() };
        node.load_plan(&plan(&config, &KernelFeatures::probe()).unwrap());
        masquerade_loopback(node);
        let mut ring = PinnedMaps::open_events(&node.pin_root()).unwrap();
        run(node, "mr_tc_egress", &datagram([10, 0, 0, 7], [192, 0, 2, 9], (1, 2), 3));
        let event = decode(&ring.next().unwrap()).unwrap();
        let Event::Drop(DropReason::NatUnsupported, event) = event else { panic!("{event:?}") };
        assert_eq!(event.protocol, Protocol::Udp as u8);
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_without_sampling_nothing_is_reported_and_with_it_a_part() {
    on_node("kernel_without_sampling_nothing_is_reported_and_with_it_a_part", |node| {
        assert_eq!(drop_packets(node, 0, 20), []);
        let part = drop_packets(node, 4, 400).len();
        // 100 expected; seven standard deviations are 61.
        assert!((39..=161).contains(&part), "{part}");
    });
}
