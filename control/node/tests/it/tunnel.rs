//! The tunnel device against the real kernel.

use std::net::IpAddr;

use mesh_control_node::{Netlink, TUNNEL_DEVICE, Tunnel};

use crate::{in_namespace, ip};

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_the_tunnel_device_is_made_changed_in_place_and_taken_away() {
    in_namespace(|| {
        let netlink = Netlink::start().expect("a netlink socket");
        let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let (v4, v6) = (address("10.244.1.1"), address("fd44::1"));
        let first = Tunnel { port: 8472, mtu: 1450, addresses: vec![v4, v6] };
        let shown = || ip(&format!("-d address show dev {TUNNEL_DEVICE}"));
        let index = netlink.set_tunnel(&first).expect("it can be made");
        for part in ["external", "dstport 8472", "NOARP", "mtu 1450", "10.244.1.1/32", "fd44::1/128", ",UP"] {
            assert!(shown().contains(part), "{part} is not in {}", shown());
        }
        assert_eq!(netlink.set_tunnel(&first).expect("nothing to do"), index);
        let other = Tunnel { mtu: 1430, addresses: vec![address("10.244.9.1"), v6], ..first.clone() };
        assert_eq!(netlink.set_tunnel(&other).expect("it can be changed"), index, "in place");
        for (part, is_there) in [("mtu 1430", true), ("10.244.9.1", true), ("10.244.1.1", false)] {
            assert_eq!(shown().contains(part), is_there, "{part} and {}", shown());
        }
        let moved = netlink.set_tunnel(&Tunnel { port: 8473, ..other }).expect("it can be made anew");
        assert!(moved != index && shown().contains("dstport 8473"), "{}", shown());

        assert!(netlink.remove_tunnel().expect("it can be taken away"));
        assert!(!netlink.remove_tunnel().expect("it is gone"), "twice is no error");
    });
}
