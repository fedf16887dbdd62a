//! Next hops that the kernel keeps resolved.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use mesh_control_node::Netlink;

use crate::{in_namespace, ip};

/// A namespace by a name, which goes whatever becomes of the test.
struct Other(String);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Waits until a neighbour has this hardware address.
fn has(address: &str, mac: &str) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let shown = ip(&format!("neighbour show {address}"));
        if shown.contains(mac) {
            return;
        }
        assert!(Instant::now() < until, "{address} is not {mac}: {shown}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_next_hops_are_kept_resolved_and_forgotten_when_nobody_is_behind_them() {
    in_namespace(|| {
        let netlink = Netlink::start().expect("a netlink socket");
        let pid = std::process::id();
        let other = Other(format!("mrt-neigh-{pid}"));
        let Other(other) = &other;
        ip(&format!("netns add {other}"));
        let there = |arguments: &str| ip(&format!("-n {other} {arguments}"));
        ip(&format!("link add mrt-a type veth peer name mrt-b netns {other}"));
        ip("address add 192.0.2.1/24 dev mrt-a");
        ip("address add 2001:db8::1/64 dev mrt-a nodad");
        ip("link set mrt-a up");
        there("link set mrt-b address 02:00:00:00:00:0b");
        there("address add 192.0.2.2/24 dev mrt-b");
        there("address add 2001:db8::2/64 dev mrt-b nodad");
        there("link set mrt-b up");
        ip("route add 198.51.100.0/24 via 192.0.2.2");
        let addresses = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().expect("an address")).collect()
        };
        // One behind a router, whose hardware address it is that counts; one that nothing leads to.
        let nodes = addresses(&["198.51.100.7", "2001:db8::2", "203.0.113.1"]);
        assert_eq!(netlink.set_managed_neighbours(&nodes).expect("it is done"), 2);
        for address in ["192.0.2.2", "2001:db8::2"] {
            has(address, "02:00:00:00:00:0b");
            assert!(ip(&format!("neighbour show {address}")).contains("managed"));
        }
        assert_eq!(netlink.set_managed_neighbours(&nodes).expect("nothing to do"), 2);
        let left = addresses(&["2001:db8::2"]);
        assert_eq!(netlink.set_managed_neighbours(&left).expect("it is done"), 1);
        assert!(!ip("neighbour show 192.0.2.2").contains("managed"));
        assert_eq!(netlink.set_managed_neighbours(&[]).expect("it is done"), 0);
        assert!(!ip("neighbour show").contains("managed"));
    });
}
