//! East-west: Service ports that have routes.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use mesh_model::service::{Service, ServiceIndex, ServicePortKey};

use super::conditions::{Conditions, Problem};
use super::effective::{Binding, Chain, Direction, Effective, EffectiveListener};
use super::redirect::Entrance;
use super::{Attached, ResolveConfig, hosts, with_port};

/// Adds a table and a listener for each address, for every Service port that has routes.
///
/// A request that no rule matches is answered with 404 (GEP-1294 and GEP-1426): routes replace what the
/// Service would have done, they do not add to it.
pub(super) fn resolve_services<'a>(
    attached: &'a Attached<'a>,
    services: &ServiceIndex,
    config: &ResolveConfig,
    effective: &mut Effective,
    conditions: &mut Conditions,
) {
    let mut taken: BTreeSet<SocketAddr> =
        effective.listeners.iter().flat_map(|listener| listener.addresses.iter().copied()).collect();
    for (key, routes) in &attached.services {
        let mut refuse = |problem, message: String| {
            for &index in routes {
                conditions.add(attached.routes[index].route.origin.clone(), problem, message.clone());
            }
        };
        if matches!(config, ResolveConfig::Plain { .. }) {
            let message = format!(
                "routes of Service {key} need redirection, which is not available here; run as root on a kernel with BPF"
            );
            refuse(Problem::Unavailable, message);
            continue;
        }
        let service = match reachable(key, services) {
            Ok(service) => service,
            Err(message) => {
                refuse(Problem::Unavailable, message);
                continue;
            }
        };
        let (free, owned): (Vec<SocketAddr>, Vec<SocketAddr>) =
            with_port(service.cluster_ips.iter().copied(), key.port)
                .into_iter()
                .partition(|address| !taken.contains(address));
        if let Some(address) = owned.first() {
            let message = format!(
                "{address} of Service {key} is already the address of an Ingress or Gateway; give that another one"
            );
            refuse(Problem::AddressConflict, message);
        }
        if free.is_empty() {
            continue;
        }
        taken.extend(&free);

        let label = format!("service/{}/{}", key.service, key.port);
        let table = format!("{label}/http");
        let entrance = Entrance { scheme: "http", port: key.port, http_port: 80, https_port: 443 };
        effective.listeners.extend(free.into_iter().map(|address| EffectiveListener {
            name: address.to_string(),
            label: label.clone(),
            rows: Vec::new(),
            addresses: vec![address],
            binding: Binding::HandOff,
            direction: Direction::Outbound,
            client_address: service.client_address,
            chains: vec![Chain { tls: None, trusted_hops: 0, route_table: table.clone() }],
        }));
        effective.route_tables.push(hosts::service_table(table, routes, attached, entrance, conditions));
    }
}

/// The Service of `key`, if clients can reach that port by a cluster address.
fn reachable<'a>(key: &ServicePortKey, services: &'a ServiceIndex) -> Result<&'a Service, String> {
    let Some(service) = services.get(&key.service) else {
        return Err(format!("Service {} does not exist; create it or change parentRefs", key.service));
    };
    if service.tcp_port(key.port).is_none() {
        let ports: Vec<String> = service.ports.iter().map(|port| port.port.to_string()).collect();
        return Err(format!(
            "Service {} has no TCP port {}; its ports are {}",
            key.service,
            key.port,
            ports.join(", ")
        ));
    }
    if service.cluster_ips.is_empty() {
        return Err(format!(
            "Service {} has no cluster address, so its clients never meet the proxy; give it a clusterIP",
            key.service
        ));
    }
    Ok(service)
}
