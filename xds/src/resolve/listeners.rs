//! Which listeners share an address and port, and their TLS chains.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use mesh_model::address::{AddressAssignments, AddressClaim};
use mesh_model::l7::{Listener, ListenerKey, ListenerProtocol};
use mesh_model::origin::ObjectKey;
use mesh_model::service::ClientAddress;
use mesh_model::{ConditionScope, Hostname, NamespacedName};

use super::conditions::{Conditions, Problem};
use super::effective::{Binding, Chain, ChainTls, Direction, EffectiveListener, RouteTable};
use super::redirect::Entrance;
use super::{Attached, ResolveConfig, hosts, with_port};

/// Listeners of one or more objects on the same addresses and port.
pub(super) struct Group<'a> {
    label: String,
    /// Sorted, not empty, all with one port.
    addresses: Vec<SocketAddr>,
    binding: Binding,
    /// The older object first.
    rows: Vec<&'a Listener>,
}

/// Groups by the place where a port is served without redirection.
pub(super) fn plain_groups<'a>(
    rows: &'a [Listener],
    http: SocketAddr,
    https: SocketAddr,
    conditions: &mut Conditions,
) -> Vec<Group<'a>> {
    let mut by_address: BTreeMap<SocketAddr, Vec<&'a Listener>> = BTreeMap::new();
    for row in rows {
        let address = match row.port {
            80 => http,
            443 => https,
            1024.. => SocketAddr::new(http.ip(), row.port),
            port => {
                let message = format!(
                    "port {port} cannot be served without redirection; use 80, 443 or a port from 1024, or run as root"
                );
                let scope = match row.key.object.kind.as_str() {
                    "Gateway" => ConditionScope::Listener(row.key.section.clone()),
                    _ => ConditionScope::Object,
                };
                conditions.add_scoped(row.origin.clone(), scope, Problem::PortUnavailable, message);
                continue;
            }
        };
        by_address.entry(address).or_default().push(row);
    }
    by_address
        .into_iter()
        .map(|(address, mut rows)| {
            sort_by_age(&mut rows);
            let label = match address {
                address if address == http => "http".to_owned(),
                address if address == https => "https".to_owned(),
                address => format!("port-{}", address.port()),
            };
            Group { label, addresses: vec![address], binding: Binding::Bound, rows }
        })
        .collect()
}

/// Groups by address and port. Addresses with the very same rows become one group, so an object with an IPv4
/// and an IPv6 address has its route tables once. Rows of objects without addresses are served nowhere.
pub(super) fn redirect_groups<'a>(
    rows: &'a [Listener],
    claims: &[AddressClaim],
    addresses: &AddressAssignments,
) -> Vec<Group<'a>> {
    let mut by_address: BTreeMap<(u16, IpAddr), BTreeSet<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        for &address in addresses.get(&row.key.object).into_iter().flatten() {
            by_address.entry((row.port, address)).or_default().insert(index);
        }
    }
    let mut by_rows: BTreeMap<(u16, BTreeSet<usize>), Vec<IpAddr>> = BTreeMap::new();
    for ((port, address), rows) in by_address {
        by_rows.entry((port, rows)).or_default().push(address);
    }

    let shared: BTreeMap<&ObjectKey, &str> =
        claims.iter().filter_map(|claim| Some((&claim.origin.object, claim.shared.as_deref()?))).collect();
    let mut groups: Vec<Group<'a>> = by_rows
        .into_iter()
        .map(|((port, members), addresses)| {
            let mut members: Vec<&Listener> = members.into_iter().map(|index| &rows[index]).collect();
            sort_by_age(&mut members);
            let addresses = with_port(addresses, port);
            let label = owner_label(&members, &shared, port).unwrap_or_else(|| addresses[0].to_string());
            Group { label, addresses, binding: Binding::HandOff, rows: members }
        })
        .collect();
    groups.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    groups
}

/// The only object, or the claim that all objects share.
fn owner_label(rows: &[&Listener], shared: &BTreeMap<&ObjectKey, &str>, port: u16) -> Option<String> {
    let mut owners = rows.iter().map(|row| {
        let object = &row.key.object;
        match shared.get(object) {
            Some(key) => format!("shared/{key}/{port}"),
            None => format!("{}/{}/{port}", object.kind.to_ascii_lowercase(), object.name),
        }
    });
    let first = owners.next()?;
    owners.all(|owner| owner == first).then_some(first)
}

fn sort_by_age(rows: &mut [&Listener]) {
    rows.sort_by(|a, b| (a.origin.precedence(), &a.key).cmp(&(b.origin.precedence(), &b.key)));
}

/// The listeners of a group, one for each address, and its route tables: one for clear text, one for TLS.
///
/// All TLS chains share a table, so a connection that a client uses again for another host of the same
/// certificate is answered by that host's routes. Tables are named by the first address, for the reason that
/// listeners are named by theirs.
pub(super) fn resolve_group<'a>(
    group: &Group<'a>,
    attached: &'a Attached<'a>,
    config: &ResolveConfig,
    conditions: &mut Conditions,
) -> (Vec<EffectiveListener>, Vec<RouteTable>) {
    let of = |protocol| -> Vec<&'a Listener> {
        group.rows.iter().copied().filter(|row| row.protocol == protocol).collect()
    };
    let (clear, tls) = (of(ListenerProtocol::Http), of(ListenerProtocol::Https));
    let port = group.addresses.first().map_or(0, SocketAddr::port);
    let (http_port, https_port) = match config {
        ResolveConfig::Plain { http, https } => (http.port(), https.port()),
        ResolveConfig::Redirect { .. } => (80, 443),
    };
    let name_of = |address: &SocketAddr| match group.binding {
        Binding::Bound => group.label.clone(),
        Binding::HandOff => address.to_string(),
    };
    let first = group.addresses.first().map(name_of).unwrap_or_default();

    let mut chains = Vec::new();
    let mut tables = Vec::new();
    // Objects that share an address may trust different numbers of proxies; the smallest never believes
    // an address that one of them would not.
    if let Some(trusted_hops) = clear.iter().map(|row| row.trusted_hops).min() {
        let name = format!("{first}/http");
        let entrance = Entrance { scheme: "http", port, http_port, https_port };
        chains.push(Chain { tls: None, trusted_hops, route_table: name.clone() });
        tables.push(hosts::listener_table(name, &clear, attached, entrance, conditions));
    }
    if !tls.is_empty() {
        let name = format!("{first}/https");
        let entrance = Entrance { scheme: "https", port, http_port, https_port };
        chains.extend(tls_chains(&tls, &name, conditions));
        tables.push(hosts::listener_table(name, &tls, attached, entrance, conditions));
    }
    let mut rows: Vec<ListenerKey> = group.rows.iter().map(|row| row.key.clone()).collect();
    rows.sort();
    let listeners = group.addresses.iter().map(|address| EffectiveListener {
        name: name_of(address),
        label: group.label.clone(),
        rows: rows.clone(),
        addresses: vec![*address],
        binding: group.binding,
        direction: Direction::Inbound,
        client_address: ClientAddress::Node,
        chains: chains.clone(),
    });
    (listeners.collect(), tables)
}

/// One chain for each set of certificates. `rows` come in the order in which they win.
fn tls_chains(rows: &[&Listener], route_table: &str, conditions: &mut Conditions) -> Vec<Chain> {
    let mut by_host: BTreeMap<&Hostname, &Listener> = BTreeMap::new();
    for row in rows {
        let winner = *by_host.entry(&row.hostname).or_insert(row);
        if winner.tls != row.tls && winner.key.object != row.key.object {
            let message = format!(
                "{}: the certificate for host {} is that of {} ({}), which {}; use one Secret for the host",
                row.origin.field,
                row.hostname,
                winner.key.object,
                winner.origin.source,
                if winner.origin.created_ms < row.origin.created_ms {
                    "is older"
                } else {
                    "comes first by name"
                },
            );
            conditions.add(row.origin.clone(), Problem::CertificateConflict, message);
        }
    }
    // The chain for every host is on its own: it is chosen last, while a name beside it in the same chain
    // would have to be chosen before wildcards of other chains.
    let mut by_secrets: BTreeMap<(&[NamespacedName], u32, bool), Vec<Hostname>> = BTreeMap::new();
    for (host, row) in by_host {
        let certificates = row.tls.as_ref().map(|tls| tls.certificates.as_slice()).unwrap_or_default();
        by_secrets
            .entry((certificates, row.trusted_hops, *host == Hostname::Any))
            .or_default()
            .push(host.clone());
    }
    let mut chains: Vec<Chain> = by_secrets
        .into_iter()
        .map(|((certificates, trusted_hops, _), hosts)| Chain {
            tls: Some(ChainTls { hosts, certificates: certificates.to_vec() }),
            trusted_hops,
            route_table: route_table.to_owned(),
        })
        .collect();
    chains.sort_by(|a, b| a.tls.as_ref().map(|tls| &tls.hosts).cmp(&b.tls.as_ref().map(|tls| &tls.hosts)));
    chains
}
