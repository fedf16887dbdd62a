//! A packet as the kernel programs see it, with maps that somebody filled.
//!
//! Holds: nothing outside of the packet is read; cutting a packet short never makes another connection of it;
//! a verdict names a listener that there is, or a backend that is in the maps; what address translation makes of it
//! says what was decided, and nothing else of it has changed (`translation`).

mod translation;

use mesh_ebpf_abi::lb::listener_index;
use mesh_ebpf_abi::{
    Addr, BackendValue, Be16, Family, Protocol, ServiceFlags, ServiceKey, ServiceValue, SlotKey,
};
use mesh_ebpf_logic::flow::number_hash;
use mesh_ebpf_logic::{
    Balance, DatapathMaps, LinkLayer, Redirect, TcpPacket, balance, flow_hash, new_connection, parse_tcp,
    pick,
};

/// Two bytes choose link layer and maps; the rest is the packet.
pub fn run(data: &[u8]) {
    let [link, fill, packet @ ..] = data else { return };
    let link = if link & 1 == 0 { LinkLayer::Ethernet } else { LinkLayer::None };
    translation::run(link, *fill, packet);
    let parsed = parse_tcp(packet, link);
    let shorter = parse_tcp(&packet[..packet.len() / 2], link);
    if let Ok(shorter) = shorter {
        assert_eq!(parsed, Ok(shorter), "a longer packet is another connection");
    }
    let Ok(TcpPacket { tuple, family, .. }) = parsed else { return };
    assert!(packet.len() >= 40, "a TCP packet of {} bytes", packet.len());

    let key = ServiceKey::new(tuple.destination, tuple.destination_port, Protocol::Tcp);
    let maps = Maps { key, fill: *fill };
    match new_connection(&tuple, family, &maps) {
        Redirect::Listener(index) => {
            let listeners = (0..maps.proxy_threads()).map(|thread| listener_index(thread, family));
            assert!(listeners.into_iter().any(|listener| listener == index), "listener {index} is not there");
        }
        Redirect::Pass | Redirect::Drop(_) => {}
    }
    for family in [Family::V4, Family::V6] {
        for hash in [flow_hash(&tuple), number_hash(u64::from(*fill)), 0, u32::MAX] {
            let address = (tuple.destination, tuple.destination_port, Protocol::Tcp);
            if let Balance::To { address, .. } = balance(address, family, hash, &maps, || fill & 4 != 0) {
                assert!(family == Family::V6 || address.as_v4().is_some(), "an IPv4 socket was sent to IPv6");
            }
            assert!(pick(hash, u32::from(*fill)) < u32::from(*fill).max(1));
        }
    }
}

/// Maps with one service, which is the one looked for.
struct Maps {
    key: ServiceKey,
    fill: u8,
}

impl DatapathMaps for Maps {
    fn service(&self, key: &ServiceKey) -> Option<ServiceValue> {
        let flags = if self.fill & 1 == 0 { ServiceFlags::NONE } else { ServiceFlags::L7_REDIRECT };
        let value = ServiceValue { service: 1, backends: u16::from(self.fill >> 4), flags };
        (*key == self.key).then_some(value)
    }

    fn slot(&self, key: &SlotKey) -> Option<u32> {
        assert!(key.slot < u32::from(self.fill >> 4), "slot {} is past the service's count", key.slot);
        (key.slot != 3).then_some(key.slot + 1)
    }

    fn backend(&self, backend: u32) -> Option<BackendValue> {
        let address = if backend.is_multiple_of(2) { Addr::v4(backend) } else { Addr::v6([backend; 4]) };
        (backend != 5).then_some(BackendValue::active(address, Be16::new(80), Protocol::Tcp))
    }

    fn is_node_address(&self, _: &Addr) -> bool {
        self.fill & 2 != 0
    }

    fn proxy_threads(&self) -> u32 {
        u32::from(self.fill >> 1 & 7)
    }
}
