//! Routes and rules against the real kernel, in a network namespace of the test's own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mesh_control_node::{
    DesiredRoute, DesiredRule, Netlink, NetlinkTarget, RedirectRouting, desired_routes, desired_rules,
    observe, remove_all,
};
use mesh_tables::{Database, Reconciler, ReconcilerConfig};

/// Runs `test` on a thread that has a fresh network namespace, which goes with the thread.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may make a namespace");
        ip("link set lo up");
        test();
    });
    thread.join().expect("the test passes");
}

fn ip(arguments: &str) -> String {
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
