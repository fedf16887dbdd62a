//! Pure: what redirection needs of the routing tables (design, redirection and source addresses).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::tables::{DesiredRoute, DesiredRule, Hop};

/// Who wants the routes and rules of redirection.
pub const REDIRECT: &str = "redirect";

/// Numbers that redirection uses in the routing tables.
#[derive(Clone, Copy, Debug)]
pub struct RedirectRouting {
    /// Mark and mask of packets that were assigned to a proxy socket.
    pub mark: (u32, u32),
    /// Table that delivers everything locally, for marked packets.
    pub marked_table: u32,
    /// Table that delivers the proxy's addresses locally, for processes of this node.
    pub address_table: u32,
    /// Priority of the rule for marked packets; the other rule comes right after it.
    pub priority: u32,
}

impl Default for RedirectRouting {
    /// Cilium's numbers for the mark, its rule and its table, so that its users find what they know.
    fn default() -> Self {
        Self { mark: (0x200, 0xf00), marked_table: 2004, address_table: 2006, priority: 9 }
    }
}

/// The rules: marked packets, and then every packet, look into our tables before the main one.
pub fn desired_rules(routing: &RedirectRouting) -> Vec<Arc<DesiredRule>> {
    let mut rules = Vec::with_capacity(4);
    for v4 in [true, false] {
        let rule = |priority, mark, table| {
            Arc::new(DesiredRule { v4, priority, mark, table, owner: REDIRECT.to_owned() })
        };
        rules.push(rule(routing.priority, Some(routing.mark), routing.marked_table));
        rules.push(rule(routing.priority + 1, None, routing.address_table));
    }
    rules
}

/// The routes: everything is local for marked packets; the proxy's addresses are local for everybody, so
/// that packets of this node's own processes meet the socket lookup.
///
/// `proxied` are addresses that go to the proxy; those in `own` (the node's addresses) are local already.
/// What the node sends to such an address carries the node's address of that family as its source: without
/// it the kernel would pick the address itself and the backend would see a client that is its own Service.
pub fn desired_routes(
    proxied: &BTreeSet<IpAddr>,
    own: &[IpAddr],
    routing: &RedirectRouting,
) -> Vec<Arc<DesiredRoute>> {
    let route = |destination, table, source| {
        Arc::new(DesiredRoute { destination, hop: Hop::Here, table, source, owner: REDIRECT.to_owned() })
    };
    let everything_v4 = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
    let everything_v6 = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));
    let mut routes = vec![
        route(everything_v4, routing.marked_table, None),
        route(everything_v6, routing.marked_table, None),
    ];
    for address in proxied {
        if address.is_loopback() || own.contains(address) {
            continue;
        }
        let source = own.iter().find(|own| own.is_ipv4() == address.is_ipv4()).copied();
        routes.push(route(IpNet::from(*address), routing.address_table, source));
    }
    routes
}

#[cfg(test)]
mod tests;
