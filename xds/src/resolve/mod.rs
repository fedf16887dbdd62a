//! The stage that sorts out conflicts: rows of many objects in, listeners and route tables that agree out.
//!
//! Pure, total and deterministic: permuting the rows changes nothing. Read [`Effective`] first, then
//! `listeners` (which rows share an address), `hosts` (which host a route ends up on, who wins) and
//! `order` (in which order the matches on one host are tried).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use mesh_model::address::AddressAssignments;
use mesh_model::l7::{Action, Fragments, ListenerKey, RouteParent};
use mesh_model::service::{L7Frontend, ServiceIndex, ServicePortKey};

mod conditions;
mod effective;
mod hosts;
mod listeners;
mod order;
mod redirect;
mod rules;
mod services;

pub use effective::{
    Binding, Chain, ChainTls, Direction, Effective, EffectiveCluster, EffectiveHost, EffectiveListener,
    EffectiveRoute, EffectiveRule, EntryListener, RouteTable,
};

use conditions::Conditions;
use rules::PreparedRoute;

/// How connections reach the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolveConfig {
    /// Without redirection: port 80 of every object is served on `http`, port 443 on `https`, ports from
    /// 1024 on 127.0.0.1 with their own number, whatever addresses the objects were given. Routes of
    /// Services cannot be served and get a condition.
    Plain {
        /// Where port 80 is served.
        http: SocketAddr,
        /// Where port 443 is served.
        https: SocketAddr,
    },
    /// The datapath hands connections over with their original destination.
    Redirect {
        /// Loopback ports (IPv4, IPv6) of each thread of the proxy; not empty.
        thread_ports: Vec<(u16, Option<u16>)>,
    },
}

/// Routes by what they hang from.
struct Attached<'a> {
    listeners: BTreeMap<&'a ListenerKey, Vec<usize>>,
    services: BTreeMap<&'a ServicePortKey, Vec<usize>>,
    routes: Vec<PreparedRoute<'a>>,
}

/// Sorts out which object gets what. Never fails: what cannot be served is left out and has a condition.
///
/// Cost: O(n log n) in listeners, matches and their hosts.
pub fn resolve(
    fragments: &Fragments,
    addresses: &AddressAssignments,
    services: &ServiceIndex,
    config: &ResolveConfig,
) -> Effective {
    let mut conditions = Conditions::default();
    let mut attached = Attached { listeners: BTreeMap::new(), services: BTreeMap::new(), routes: Vec::new() };
    for (index, route) in fragments.routes.iter().enumerate() {
        for parent in &route.parents {
            match parent {
                RouteParent::Listener(key) => attached.listeners.entry(key).or_default().push(index),
                RouteParent::Service(key) => attached.services.entry(key).or_default().push(index),
            }
        }
        attached.routes.push(rules::prepare(route, &mut conditions));
    }

    let mut effective = Effective::default();
    let groups = match config {
        ResolveConfig::Plain { http, https } => {
            listeners::plain_groups(&fragments.listeners, *http, *https, &mut conditions)
        }
        ResolveConfig::Redirect { thread_ports } => {
            effective.entry = Some(EntryListener { thread_ports: thread_ports.clone() });
            listeners::redirect_groups(&fragments.listeners, &fragments.claims, addresses)
        }
    };
    for group in &groups {
        let (listeners, tables) = listeners::resolve_group(group, &attached, config, &mut conditions);
        effective.listeners.extend(listeners);
        effective.route_tables.extend(tables);
    }
    services::resolve_services(&attached, services, config, &mut effective, &mut conditions);

    effective.listeners.sort_by(|a, b| a.name.cmp(&b.name));
    effective.route_tables.sort_by(|a, b| a.name.cmp(&b.name));
    effective.clusters = clusters(&effective.route_tables, services);
    effective.frontends = frontends(&effective.listeners);
    effective.conditions = conditions.into_intents();
    effective
}

/// The Service ports that the tables send to. One that no Service has is a cluster without endpoints,
/// which answers 503.
fn clusters(tables: &[RouteTable], services: &ServiceIndex) -> Vec<EffectiveCluster> {
    let mut keys: BTreeMap<&ServicePortKey, ()> = BTreeMap::new();
    let hosts = tables.iter().flat_map(|table| &table.hosts);
    for route in hosts.flat_map(|host| host.routes.iter().chain(host.deeper.iter().flatten())) {
        if let Action::Forward(forward) = &route.rule.action {
            keys.extend(forward.backends.iter().filter_map(|b| Some((b.backend.as_ref()?, ()))));
        }
    }
    keys.into_keys()
        .map(|key| {
            let service = services.get(&key.service);
            EffectiveCluster {
                key: key.clone(),
                app_protocol: service
                    .and_then(|s| s.tcp_port(key.port))
                    .map(|port| port.app_protocol)
                    .unwrap_or_default(),
                balance: service.map(|s| s.l7_balance).unwrap_or_default(),
            }
        })
        .collect()
}

fn frontends(listeners: &[EffectiveListener]) -> Vec<L7Frontend> {
    let mut frontends: Vec<L7Frontend> = listeners
        .iter()
        .filter(|listener| listener.binding == Binding::HandOff)
        .flat_map(|listener| {
            listener.addresses.iter().map(|address| L7Frontend {
                address: address.ip(),
                port: address.port(),
                listener: listener.name.clone(),
            })
        })
        .collect();
    frontends.sort();
    frontends
}

/// Addresses with one port.
fn with_port(addresses: impl IntoIterator<Item = IpAddr>, port: u16) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> =
        addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}
