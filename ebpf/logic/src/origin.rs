//! Whether what comes from a pod's device has an address of that pod as its source.
//!
//! Whoever could send in another pod's name would have that pod's identity, note connections for it, and leave by
//! addresses that nothing masquerades. IPv4 (RFC 791), IPv6 (RFC 8200, RFC 4291 for what is of a link alone).

use mesh_ebpf_abi::{Addr, PodAddresses};

use crate::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, PacketBytes, address_v6};

/// Whose a packet's source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The pod's, or the packet has none, as it is not IP.
    Own,
    /// Of the link between pod and node and nowhere else: a link-local address, or none yet. Neighbour discovery has
    /// it, and who asks for an address. It is for the stack, which sends nothing on that has such a source.
    Link,
    /// Anybody else's.
    Foreign(Addr),
}

/// Judges a packet with an Ethernet header. Two reads, no map.
#[inline(always)]
pub fn origin<P: PacketBytes + ?Sized>(packet: &P, pod: &PodAddresses) -> Origin {
    const NETWORK: u32 = 14;
    // What is too short for its source is so for the stack too.
    match packet.load::<2>(12) {
        Some(ETHERTYPE_IPV4) => {
            let Some(source) = packet.load::<4>(NETWORK + 12) else { return Origin::Link };
            let address = Addr::v4(u32::from_ne_bytes(source));
            match source {
                [0, 0, 0, 0] => Origin::Link,
                _ if address == pod.v4 => Origin::Own,
                _ => Origin::Foreign(address),
            }
        }
        Some(ETHERTYPE_IPV6) => {
            let Some(source) = packet.load::<16>(NETWORK + 8) else { return Origin::Link };
            let address = address_v6(source);
            match address {
                // Before the pod's own, which is the same where it has none.
                PodAddresses::UNSET => Origin::Link,
                _ if source[0] == 0xfe && source[1] & 0xc0 == 0x80 => Origin::Link,
                _ if address == pod.v6 => Origin::Own,
                _ => Origin::Foreign(address),
            }
        }
        _ => Origin::Own,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::vec::Vec;

    use mesh_ebpf_abi::{Addr, PodAddresses};

    use super::{Origin, origin};

    fn frame(source: IpAddr) -> Vec<u8> {
        let mut bytes = std::vec![2; 12];
        match source {
            IpAddr::V4(source) => {
                bytes.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
                bytes.extend(source.octets());
                bytes.extend([192, 0, 2, 9]);
            }
            IpAddr::V6(source) => {
                bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
                bytes.extend(source.octets());
                bytes.extend(Ipv6Addr::LOCALHOST.octets());
            }
        }
        bytes.extend([0; 8]);
        bytes
    }

    fn judged(source: &str, pod: &PodAddresses) -> Origin {
        origin(frame(source.parse().unwrap()).as_slice(), pod)
    }

    fn pod() -> PodAddresses {
        let v6: Ipv6Addr = "fd00::7".parse().unwrap();
        PodAddresses { v4: Ipv4Addr::new(10, 0, 0, 7).into(), v6: v6.into() }
    }

    #[test]
    fn a_pod_speaks_in_its_own_name_alone() {
        assert_eq!((judged("10.0.0.7", &pod()), judged("fd00::7", &pod())), (Origin::Own, Origin::Own));
        for other in ["10.0.0.8", "192.0.2.1", "127.0.0.1", "169.254.1.1", "fd00::8", "::1", "ff02::1"] {
            let address = Addr::from(other.parse::<IpAddr>().unwrap());
            assert_eq!(judged(other, &pod()), Origin::Foreign(address), "{other}");
        }
        // The same bytes, but not the same address.
        assert!(matches!(judged("::ffff:10.0.0.7", &pod()), Origin::Foreign(_)));
    }

    #[test]
    fn what_is_of_the_link_is_for_the_stack() {
        for source in ["0.0.0.0", "::", "fe80::7", "febf::1"] {
            assert_eq!(judged(source, &pod()), Origin::Link, "{source}");
        }
        assert!(matches!(judged("fec0::1", &pod()), Origin::Foreign(_)));
    }

    #[test]
    fn a_pod_of_one_family_has_no_source_of_the_other() {
        let only_v4 = PodAddresses { v6: PodAddresses::UNSET, ..pod() };
        assert!(matches!(judged("fd00::7", &only_v4), Origin::Foreign(_)));
        assert_eq!((judged("::", &only_v4), judged("fe80::1", &only_v4)), (Origin::Link, Origin::Link));
        let only_v6 = PodAddresses { v4: PodAddresses::UNSET, ..pod() };
        assert!(matches!(judged("10.0.0.7", &only_v6), Origin::Foreign(_)));
        assert_eq!(judged("0.0.0.0", &only_v6), Origin::Link);
    }

    #[test]
    fn what_has_no_source_is_judged_by_nobody_here() {
        let mut arp = frame("10.0.0.8".parse().unwrap());
        arp[12..14].copy_from_slice(&[8, 6]);
        assert_eq!(origin(arp.as_slice(), &pod()), Origin::Own);
        assert_eq!(origin(&arp[..10], &pod()), Origin::Own);
        for source in ["10.0.0.8", "fd00::8"] {
            assert_eq!(origin(&frame(source.parse().unwrap())[..24], &pod()), Origin::Link);
        }
    }
}
