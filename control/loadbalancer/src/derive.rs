//! Pure: Services, backends and the proxy's addresses to frontends.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use mesh_model::service::{
    Backend, BackendIndex, BackendState, L7Frontend, Protocol, Service, ServiceIndex, ServiceKind,
    TrafficPolicy,
};

use crate::tables::{Frontend, FrontendKey, FrontendKind, HostPort, Reach, Scope, ThisNode};

/// What the kernel should do for each address and port, sorted by key.
///
/// An address that the proxy owns goes to the proxy, whatever Service has it. Headless Services and
/// ExternalName have no frontend. Of two Services with one address the older keeps it; a port of the node is the
/// Service's rather than a pod's. Terminating backends take part only where no active one is left.
pub fn desired_frontends(
    services: &ServiceIndex,
    backends: &BackendIndex,
    proxied: &[L7Frontend],
    node: &ThisNode,
) -> Vec<Arc<Frontend>> {
    let mut frontends = BTreeMap::new();
    let mut by_age: Vec<&Arc<Service>> = services.values().collect();
    by_age.sort_by_key(|service| service.origin.precedence());
    for service in by_age {
        for frontend in service_frontends(service, backends, node) {
            frontends.entry(frontend.key).or_insert(frontend);
        }
    }
    for frontend in node.host_ports.iter().flat_map(host_port_frontends) {
        frontends.entry(frontend.key).or_insert(frontend);
    }
    for owned in proxied {
        let (address, port, protocol) = (owned.address, owned.port, Protocol::Tcp);
        let key = FrontendKey { address, port, protocol, scope: Scope::Everyone };
        let kind = FrontendKind::Proxy { listener: owned.listener.clone() };
        frontends.insert(key, Frontend { key, owner: owned.listener.clone(), kind });
        frontends.remove(&FrontendKey { scope: Scope::Outside, ..key });
    }
    frontends.into_values().map(Arc::new).collect()
}

fn service_frontends(service: &Service, backends: &BackendIndex, node: &ThisNode) -> Vec<Frontend> {
    if matches!(service.kind, ServiceKind::Headless | ServiceKind::ExternalName(_)) {
        return Vec::new();
    }
    let mut frontends = Vec::new();
    for port in &service.ports {
        let all = backends
            .get(&service.name)
            .and_then(|backends| backends.ports.get(&(port.port, port.protocol)))
            .map_or(&[][..], Vec::as_slice);
        let mut add = |address: IpAddr, number: u16, scope, reach, all: &[Backend]| {
            let key = FrontendKey { address, port: number, protocol: port.protocol, scope };
            let kind = FrontendKind::Balanced { backends: usable(all, address), reach };
            frontends.push(Frontend { key, owner: service.name.to_string(), kind });
        };
        let here: Vec<Backend> = all.iter().filter(|backend| node.has(backend.address)).cloned().collect();
        for address in &service.cluster_ips {
            let of_policy = match service.internal_traffic {
                TrafficPolicy::Cluster => all,
                TrafficPolicy::Local => &here,
            };
            add(*address, port.port, Scope::Everyone, Reach::Cluster, of_policy);
        }
        let given = service.external_ips.iter().map(|address| (*address, port.port));
        let on_nodes = service.cluster_ips.iter().zip(std::iter::repeat(port.node_port));
        let on_nodes = on_nodes.filter_map(|(address, port)| Some((any(*address), port?)));
        for (address, number) in given.chain(on_nodes) {
            match service.external_traffic {
                TrafficPolicy::Cluster => add(address, number, Scope::Everyone, Reach::Outside, all),
                TrafficPolicy::Local => {
                    add(address, number, Scope::Everyone, Reach::OutsideApart, all);
                    add(address, number, Scope::Outside, Reach::OutsideApart, &here);
                }
            }
        }
    }
    frontends
}

fn host_port_frontends(asked: &HostPort) -> impl Iterator<Item = Frontend> + '_ {
    let of_family = |pod: &&IpAddr| asked.address.is_none_or(|address| address.is_ipv4() == pod.is_ipv4());
    asked.pod.iter().filter(of_family).map(|pod| {
        let address = asked.address.unwrap_or_else(|| any(*pod));
        let key = FrontendKey { address, port: asked.port, protocol: asked.protocol, scope: Scope::Everyone };
        let backends = vec![(*pod, asked.pod_port)];
        let kind = FrontendKind::Balanced { backends, reach: Reach::Outside };
        Frontend { key, owner: asked.owner.clone(), kind }
    })
}

/// What stands for each of the node's addresses of a family.
fn any(family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The backends that new connections may go to, of the frontend's family.
fn usable(all: &[Backend], frontend: IpAddr) -> Vec<(IpAddr, u16)> {
    let in_state = |state: BackendState| -> Vec<(IpAddr, u16)> {
        let of_state = all.iter().filter(|backend| backend.state == state);
        let of_family = of_state.filter(|backend| backend.address.is_ipv4() == frontend.is_ipv4());
        let mut found: Vec<_> = of_family.map(|backend| (backend.address, backend.port)).collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    let active = in_state(BackendState::Active);
    if active.is_empty() { in_state(BackendState::Terminating) } else { active }
}

#[cfg(test)]
mod tests;
