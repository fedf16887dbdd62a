//! Routes and rules against the real kernel, in a network namespace of the test's own.

mod neighbours;
mod tunnel;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mesh_control_node::{
    DesiredRoute, DesiredRule, Hop, NODES, Netlink, NetlinkTarget, RedirectRouting, desired_routes,
    desired_rules, observe, remove_all,
};
use mesh_tables::{Database, Reconciler, ReconcilerConfig};

/// Runs `test` on a thread that has a fresh network namespace, which goes with the thread.
pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may make a namespace");
        ip("link set lo up");
        test();
    });
    thread.join().expect("the test passes");
}

pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("ip prints text")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_routes_and_rules_follow_their_tables_and_go_at_the_end() {
    in_namespace(|| {
        let netlink = Netlink::start().expect("a netlink socket");
        ip("link add mrt-a type veth peer name mrt-b");
        ip("link set mrt-a up");
        ip("addr add 10.0.0.1/24 dev mrt-a");
        let left_over = "route add local 203.0.113.9/32 dev lo table 2006 proto 109";
        ip(left_over);
        runtime().block_on(async {
            let database = Arc::new(Database::new());
            let routes = database.add_table::<DesiredRoute>([]);
            let rules = database.add_table::<DesiredRule>([]);
            let target = || NetlinkTarget::new(netlink.clone());
            let config = ReconcilerConfig::default();
            let route_handle = Reconciler::start(database.clone(), routes, target(), config);
            let rule_handle = Reconciler::start(database.clone(), rules, target(), config);
            let routing = RedirectRouting::default();
            let own: [IpAddr; 1] = ["10.0.0.1".parse().expect("an address")];
            let proxied = BTreeSet::from(["192.0.2.1".parse().expect("an address")]);
            let revision = database.write(|txn| {
                txn.replace(rules, desired_rules(&routing));
                txn.replace(routes, desired_routes(&proxied, &own, &routing))
            });
            assert_eq!(revision, 3);
            let at = database.snapshot().revision();
            assert!(route_handle.reached(at, Duration::from_secs(5)).await);
            assert!(rule_handle.reached(at, Duration::from_secs(5)).await);
            assert!(route_handle.status().borrow().refused.is_empty());
            let table = ip("route show table 2006");
            assert!(table.contains("local 192.0.2.1") && table.contains("src 10.0.0.1"), "{table}");
            assert!(!table.contains("203.0.113.9"), "the left-over is pruned: {table}");
            assert!(ip("rule show").contains("fwmark 0x200/0xf00 lookup 2004"));
            assert!(ip("-6 rule show").contains("fwmark 0x200/0xf00 lookup 2004"));
            assert!(ip("-6 route show table 2004").contains("local default"));

            database.write(|txn| txn.replace(routes, desired_routes(&BTreeSet::new(), &own, &routing)));
            let at = database.snapshot().revision();
            assert!(route_handle.reached(at, Duration::from_secs(5)).await);
            assert!(!ip("route show table all").contains("192.0.2.1"));
        });
        assert!(remove_all(&netlink).expect("netlink answers") > 0);
        assert!(!ip("rule show").contains("2004"));
        assert!(!ip("route show table all").contains("table 2004"));
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_links_and_addresses_are_followed() {
    in_namespace(|| {
        runtime().block_on(async {
            let mut state = observe().await.expect("netlink answers");
            assert!(state.borrow_and_update().addresses.is_empty());
            ip("link add mrt-a type veth peer name mrt-b");
            ip("link set mrt-a up");
            ip("addr add 10.0.0.1/24 dev mrt-a");
            ip("route add default via 10.0.0.2 dev mrt-a onlink");
            let seen = state.wait_for(|state| state.links.values().any(|link| link.default_route));
            let seen = tokio::time::timeout(Duration::from_secs(5), seen).await.expect("in time");
            let seen = seen.expect("the observer runs").clone();
            let link = seen.links.values().find(|link| link.name == "mrt-a").expect("the link");
            assert!(link.up && link.ethernet && link.default_route);
            assert_eq!(seen.addresses, [(link.index, "10.0.0.1".parse().expect("an address"))]);
        });
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_default_route_by_two_routers_leaves_by_both_devices() {
    in_namespace(|| {
        for (name, network) in [("mrt-a", "10.0.0"), ("mrt-b", "10.0.1")] {
            ip(&format!("link add {name} type veth peer name {name}x"));
            ip(&format!("link set {name}x up"));
            ip(&format!("link set {name} up"));
            ip(&format!("addr add {network}.9/24 dev {name}"));
            ip(&format!("addr add {network}.1/24 dev {name}"));
        }
        ip("route add default nexthop via 10.0.0.2 nexthop via 10.0.1.2");
        ip("addr add 2001:db8::1/64 dev mrt-b nodad preferred_lft 0");
        runtime().block_on(async {
            let state = observe().await.expect("netlink answers").borrow().clone();
            let leaves = |name| state.links.values().any(|link| link.name == name && link.default_route);
            assert!(leaves("mrt-a") && leaves("mrt-b"), "{:?}", state.links);
            // Secondary ones are smaller here, and the deprecated one is the only one of IPv6.
            let avoided: Vec<String> = state.avoided.iter().map(ToString::to_string).collect();
            assert_eq!(avoided, ["10.0.0.1", "10.0.1.1", "2001:db8::1"]);
        });
    });
}

fn to_node(destination: &str, gateway: &str) -> Arc<DesiredRoute> {
    let gateway = gateway.parse().expect("an address");
    let hop = Hop::Node { name: "other".to_owned(), gateway, device: None };
    let destination = destination.parse().expect("a range");
    Arc::new(DesiredRoute { destination, hop, table: 254, source: None, owner: NODES.to_owned() })
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_routes_to_other_nodes_come_and_go_and_a_route_of_somebody_else_stays() {
    in_namespace(|| {
        let netlink = Netlink::start().expect("a netlink socket");
        ip("link add mrt-a type veth peer name mrt-b");
        ip("link set mrt-a up");
        ip("link set mrt-b up");
        ip("addr add 192.0.2.1/24 dev mrt-a");
        ip("addr add 2001:db8::1/64 dev mrt-a nodad");
        let foreign = ["10.0.2.0/24 via 192.0.2.9 dev mrt-a", "fd00:2::/64 via 2001:db8::9 dev mrt-a"];
        ip(&format!("route add {}", foreign[0]));
        ip(&format!("-6 route add {}", foreign[1]));
        runtime().block_on(async {
            let database = Arc::new(Database::new());
            let routes = database.add_table::<DesiredRoute>([]);
            let config = ReconcilerConfig::default();
            let handle =
                Reconciler::start(database.clone(), routes, NetlinkTarget::new(netlink.clone()), config);
            let settled = async || {
                let at = database.snapshot().last_change(routes);
                assert!(handle.reached(at, Duration::from_secs(5)).await);
            };
            let on_link =
                [("10.0.2.0/24", "192.0.2.2"), ("10.0.3.0/24", "192.0.2.3"), ("fd00:2::/64", "2001:db8::2")];
            let off_link = [("10.0.4.0/24", "198.51.100.4"), ("fd00:4::/64", "2001:db8:4::4")];
            let all = on_link.into_iter().chain(off_link).map(|(to, by)| to_node(to, by));
            database.write(|txn| txn.replace(routes, all));
            settled().await;
            let (v4, v6) = (ip("route show"), ip("-6 route show"));
            for line in
                ["10.0.2.0/24 via 192.0.2.2", "10.0.3.0/24 via 192.0.2.3", "10.0.2.0/24 via 192.0.2.9"]
            {
                assert!(v4.contains(line), "{line}: {v4}");
            }
            assert!(
                v6.contains("fd00:2::/64 via 2001:db8::2") && v6.contains("fd00:2::/64 via 2001:db8::9"),
                "{v6}"
            );
            assert!(
                ip("route get 10.0.2.7").contains("via 192.0.2.9"),
                "somebody else's route goes on to win"
            );
            let refused = handle.status().borrow().refused.clone();
            assert_eq!(refused.len(), 2, "{refused:?}");
            assert!(refused.values().all(|why| why.contains("the pods of other (")), "{refused:?}");

            // A node has another address, the others are gone.
            database.write(|txn| txn.replace(routes, [to_node("10.0.3.0/24", "192.0.2.33")]));
            settled().await;
            let (v4, v6) = (ip("route show"), ip("-6 route show"));
            assert!(v4.contains("10.0.3.0/24 via 192.0.2.33") && !v4.contains("192.0.2.3 "), "{v4}");
            assert!(v4.contains(foreign[0]) && !v4.contains("192.0.2.2 "), "{v4}");
            assert!(v6.contains("via 2001:db8::9") && !v6.contains("2001:db8::2 "), "{v6}");
            assert!(handle.status().borrow().refused.is_empty());
        });
        assert_eq!(remove_all(&netlink).expect("netlink answers"), 1);
        assert!(ip("route show").contains(foreign[0]));
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_devices_to_the_outside_are_found_by_their_routes_as_they_come_and_go() {
    in_namespace(|| {
        runtime().block_on(async {
            let mut state = observe().await.expect("netlink answers");
            let mut outside = async |what: &str, expected: &[&str]| {
                let is_so = |state: &mesh_control_node::NodeState| {
                    let names =
                        state.links.values().filter(|link| link.external).map(|link| link.name.as_str());
                    names.collect::<BTreeSet<_>>() == expected.iter().copied().collect()
                };
                let is_in_time =
                    tokio::time::timeout(Duration::from_secs(5), state.wait_for(is_so)).await.is_ok();
                assert!(is_in_time, "{what}: {:?}", state.borrow().links);
            };
            for name in ["mrt-a", "mrt-b", "mrp1", "mrt-port"] {
                ip(&format!("link add {name} type veth peer name {name}x"));
                ip(&format!("link set {name}x up"));
                ip(&format!("link set {name} up"));
            }
            ip("addr add 10.0.0.1/24 dev mrt-a");
            ip("addr add fd00::1/64 dev mrt-a nodad");
            outside("a network of its own is not the outside", &[]).await;
            ip("route add 198.51.100.0/24 via 10.0.0.2 table 77");
            outside("a router in another table", &["mrt-a"]).await;
            ip("addr add 10.0.1.1/24 dev mrt-b");
            ip("route add 203.0.113.0/24 nexthop via 10.0.0.2 nexthop via 10.0.1.2");
            outside("one of two ways", &["mrt-a", "mrt-b"]).await;
            ip("addr add 10.0.2.1/24 dev mrp1");
            ip("route add 192.0.2.0/24 via 10.0.2.2");
            ip("link add mrt-bridge type bridge");
            ip("link set mrt-bridge up");
            ip("addr add 10.0.3.1/24 dev mrt-port");
            ip("route add 192.0.3.0/24 via 10.0.3.2");
            outside("a pod's device is none", &["mrt-a", "mrt-b", "mrt-port"]).await;
            ip("link set mrt-port master mrt-bridge");
            outside("a port of a bridge is none", &["mrt-a", "mrt-b"]).await;
            ip("link set mrt-b down");
            outside("nor one that is down", &["mrt-a"]).await;
            ip("route del 198.51.100.0/24 table 77");
            ip("link del mrt-b");
            ip("route flush 203.0.113.0/24");
            ip("-6 route add 2001:db8::/32 via fd00::2");
            outside("IPv6 by a router", &["mrt-a"]).await;
            ip("link del mrt-a");
            outside("it is gone", &[]).await;
        });
    });
}
