use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::{Addr, Be16, Family};

#[test]
fn an_ipv4_address_is_kept_v4_mapped_in_network_order() {
    let addr = Addr::from(Ipv4Addr::new(10, 96, 0, 1));
    assert_eq!(addr.as_bytes(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 96, 0, 1]);
    assert_eq!(addr.family(), Family::V4);
    assert_eq!(addr.as_v4(), Some(u32::from_ne_bytes([10, 96, 0, 1])));
}

#[test]
fn a_port_reads_back_in_host_order_and_lies_in_memory_in_network_order() {
    let port = Be16::new(8080);
    assert_eq!(port.as_bytes(), [0x1f, 0x90]);
    assert_eq!(port.get(), 8080);
}

proptest! {
    #[test]
    fn every_ipv4_address_survives_the_trip(bits: u32) {
        let ip = IpAddr::V4(Ipv4Addr::from_bits(bits));
        prop_assert_eq!(Addr::from(ip).to_ip(), ip);
    }

    #[test]
    fn every_ipv6_address_survives_the_trip_up_to_v4_mapping(bits: u128) {
        let ip = IpAddr::V6(Ipv6Addr::from_bits(bits));
        prop_assert_eq!(Addr::from(ip).to_ip(), ip.to_canonical());
    }
}
