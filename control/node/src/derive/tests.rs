use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{RedirectRouting, desired_routes, desired_rules};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn addresses_of_the_proxy_are_local_with_the_nodes_source() {
    let routing = RedirectRouting::default();
    let proxied = BTreeSet::from([ip("192.0.2.1"), ip("2001:db8::1")]);
    let own = [ip("10.0.0.1"), ip("fd00::1")];
    let routes = desired_routes(&proxied, &own, &routing);
    let of_addresses: Vec<_> = routes
        .iter()
        .filter(|route| route.table == routing.address_table)
        .map(|route| (route.destination.to_string(), route.source))
        .collect();
    assert_eq!(
        of_addresses,
        [
            ("192.0.2.1/32".to_owned(), Some(ip("10.0.0.1"))),
            ("2001:db8::1/128".to_owned(), Some(ip("fd00::1"))),
        ]
    );
}

#[test]
fn the_nodes_own_addresses_need_no_route() {
    let routing = RedirectRouting::default();
    let own = [ip("10.0.0.1")];
    let routes = desired_routes(&BTreeSet::from(own), &own, &routing);
    assert!(routes.iter().all(|route| route.table == routing.marked_table), "{routes:?}");
}

#[test]
fn both_families_have_both_rules() {
    let rules = desired_rules(&RedirectRouting::default());
    let keys: BTreeSet<_> = rules.iter().map(|rule| (rule.v4, rule.priority, rule.mark)).collect();
    assert_eq!(keys.len(), 4);
    assert!(keys.contains(&(false, 9, Some((0x200, 0xf00)))));
}
