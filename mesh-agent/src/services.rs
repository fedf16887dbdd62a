//! Every address that connections are made to, and where they go: what `service list` shows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_control_loadbalancer::{Frontend, FrontendKey, FrontendKind, Scope, desired_frontends};
use mesh_ebpf_abi::ServiceKey;
use mesh_model::NamespacedName;
use mesh_model::service::{Backend, BackendState, Protocol, Service, ServiceKind, ServicePort};
use mesh_xds::resolve::EffectiveListener;
use serde::Serialize;

use crate::derive::Derived;
use crate::state::State;

/// Identifiers in the kernel's services map, by its key.
pub(crate) type ServiceIds = BTreeMap<ServiceKey, u32>;

/// One address and port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ServiceRow {
    /// Identifier in the kernel's map; none while it is not there.
    pub(crate) id: Option<u32>,
    /// What connections are made to.
    pub(crate) frontend: Endpoint,
    /// `ClusterIP`, `LoadBalancer`, `ExternalIPs`, `NodePort` or `HostPort`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The Service; none for an address of an Ingress or a Gateway.
    pub(crate) service: Option<NamespacedName>,
    /// The proxy's listener that takes the connections; none where the kernel balances.
    pub(crate) proxy: Option<ProxyTarget>,
    /// Where connections end, in order.
    pub(crate) backends: Vec<BackendRow>,
}

/// Address, port and protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Endpoint {
    /// Address.
    pub(crate) address: IpAddr,
    /// Port.
    pub(crate) port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub(crate) protocol: &'static str,
    /// `external`: for clients outside alone, where they get other backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<&'static str>,
}

/// A listener of the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ProxyTarget {
    /// Name in the proxy's configuration.
    pub(crate) listener: String,
    /// Whose it is, such as `ingress/shop/web/80`.
    pub(crate) owner: String,
}

/// A backend and its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BackendRow {
    /// Address.
    pub(crate) address: IpAddr,
    /// Port.
    pub(crate) port: u16,
    /// `active` or `terminating`.
    pub(crate) state: &'static str,
}

impl From<&Backend> for BackendRow {
    fn from(backend: &Backend) -> Self {
        let state = match backend.state {
            BackendState::Active => "active",
            BackendState::Terminating => "terminating",
        };
        Self { address: backend.address, port: backend.port, state }
    }
}

/// All rows, by the identifiers of the kernel's map and then by address. Cost: a walk over all Services.
pub(crate) fn rows(state: &State, ids: &ServiceIds) -> Vec<ServiceRow> {
    let derived = &*state.derived;
    let listeners: BTreeMap<&str, &EffectiveListener> =
        derived.effective.listeners.iter().map(|listener| (listener.name.as_str(), listener)).collect();
    let owners = owners(derived);
    let frontends = desired_frontends(
        &derived.ingested.services,
        &derived.ingested.backends,
        &derived.effective.frontends,
        &state.node,
    );
    let row = |frontend: &Arc<Frontend>| row(derived, frontend, &listeners, &owners, ids);
    let mut rows: Vec<ServiceRow> = frontends.iter().map(row).collect();
    rows.sort_by_key(|row| (row.id.is_none(), row.id, row.frontend.address, row.frontend.port));
    rows
}

/// Services by their addresses; of two with one address the older, as in the kernel.
fn owners(derived: &Derived) -> BTreeMap<IpAddr, &Arc<Service>> {
    let mut by_age: Vec<&Arc<Service>> = derived.ingested.services.values().collect();
    by_age.sort_by_key(|service| service.origin.precedence());
    let mut owners = BTreeMap::new();
    for service in by_age {
        for address in service.cluster_ips.iter().chain(&service.external_ips) {
            owners.entry(*address).or_insert(service);
        }
    }
    owners
}

fn row(
    derived: &Derived,
    frontend: &Frontend,
    listeners: &BTreeMap<&str, &EffectiveListener>,
    owners: &BTreeMap<IpAddr, &Arc<Service>>,
    ids: &ServiceIds,
) -> ServiceRow {
    let FrontendKey { address, port, protocol, scope } = frontend.key;
    let of_node = |service: &&Arc<Service>| service.name.to_string() == frontend.owner;
    let service = match address.is_unspecified() {
        true => derived.ingested.services.values().find(of_node),
        false => owners.get(&address).copied(),
    };
    // The Service's own port, which backends are known by.
    let own_port = |service: &&Arc<Service>| {
        let is_it = |p: &&ServicePort| p.protocol == protocol && p.node_port == Some(port);
        service.ports.iter().find(is_it).filter(|_| address.is_unspecified()).map_or(port, |port| port.port)
    };
    let port_of_service = service.as_ref().map_or(port, own_port);
    let kind = match service {
        None if matches!(&frontend.kind, FrontendKind::Balanced { .. }) => "HostPort",
        Some(_) if address.is_unspecified() => "NodePort",
        Some(service) if service.cluster_ips.contains(&address) => "ClusterIP",
        Some(service) if service.kind != ServiceKind::LoadBalancer => "ExternalIPs",
        // An Ingress or a Gateway without a Service of its own is what a LoadBalancer Service is elsewhere.
        _ => "LoadBalancer",
    };
    let proxy = match &frontend.kind {
        FrontendKind::Balanced { .. } => None,
        FrontendKind::Proxy { listener } => {
            let owner = listeners.get(listener.as_str()).map_or(listener, |found| &found.label).clone();
            Some(ProxyTarget { listener: listener.clone(), owner })
        }
    };
    let backends = service
        .and_then(|service| derived.ingested.backends.get(&service.name))
        .and_then(|backends| backends.ports.get(&(port_of_service, protocol)))
        .into_iter()
        .flatten()
        .filter(|backend| backend.address.is_ipv4() == address.is_ipv4())
        .map(BackendRow::from);
    let pods = match &frontend.kind {
        FrontendKind::Balanced { backends, .. } if service.is_none() => backends.as_slice(),
        _ => &[],
    };
    let pods =
        pods.iter().map(|(address, port)| BackendRow { address: *address, port: *port, state: "active" });
    ServiceRow {
        id: map_key(&frontend.key).and_then(|key| ids.get(&key).copied()),
        frontend: Endpoint { address, port, protocol: protocol_name(protocol), scope: scope_name(scope) },
        kind,
        service: service.map(|service| service.name.clone()),
        proxy,
        backends: backends.chain(pods).collect(),
    }
}

/// The key in the kernel's map; none for a protocol that is not balanced.
fn map_key(key: &FrontendKey) -> Option<ServiceKey> {
    let protocol = mesh_ebpf_abi::Protocol::from_number(key.protocol.number().into())?;
    let everyone = ServiceKey::new(key.address.into(), mesh_ebpf_abi::Be16::new(key.port), protocol);
    Some(match key.scope {
        Scope::Everyone => everyone,
        Scope::Outside => ServiceKey { scope: ServiceKey::OUTSIDE, ..everyone },
    })
}

fn scope_name(scope: Scope) -> Option<&'static str> {
    match scope {
        Scope::Everyone => None,
        Scope::Outside => Some("external"),
    }
}

pub(crate) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

#[cfg(test)]
mod tests;
