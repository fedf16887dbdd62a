//! Pure: Services, backends and the proxy's addresses to frontends.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_model::service::{
    Backend, BackendIndex, BackendState, L7Frontend, Protocol, Service, ServiceIndex, ServiceKind,
};

use crate::tables::{Frontend, FrontendKey, FrontendKind};

/// What the kernel should do for each address and port, sorted by key.
///
/// An address that the proxy owns goes to the proxy, whatever Service has it. Headless Services and
/// ExternalName have no frontend. Of two Services with one address the older keeps it. Terminating
/// backends take part only where no active one is left.
pub fn desired_frontends(
    services: &ServiceIndex,
    backends: &BackendIndex,
    proxied: &[L7Frontend],
) -> Vec<Arc<Frontend>> {
    let mut frontends = BTreeMap::new();
    let mut by_age: Vec<&Arc<Service>> = services.values().collect();
    by_age.sort_by_key(|service| service.origin.precedence());
    for service in by_age {
        for frontend in service_frontends(service, backends) {
            frontends.entry(frontend.key).or_insert(frontend);
        }
    }
    for owned in proxied {
        let key = FrontendKey { address: owned.address, port: owned.port, protocol: Protocol::Tcp };
        let kind = FrontendKind::Proxy { listener: owned.listener.clone() };
        frontends.insert(key, Frontend { key, owner: owned.listener.clone(), kind });
    }
    frontends.into_values().map(Arc::new).collect()
}

fn service_frontends<'a>(
    service: &'a Service,
    backends: &'a BackendIndex,
) -> impl Iterator<Item = Frontend> + 'a {
    let has_addresses = !matches!(service.kind, ServiceKind::Headless | ServiceKind::ExternalName(_));
    let addresses = service.cluster_ips.iter().chain(&service.external_ips).filter(move |_| has_addresses);
    addresses.flat_map(move |address| {
        service.ports.iter().map(move |port| {
            let all = backends
                .get(&service.name)
                .and_then(|backends| backends.ports.get(&(port.port, port.protocol)))
                .map_or(&[][..], Vec::as_slice);
            Frontend {
                key: FrontendKey { address: *address, port: port.port, protocol: port.protocol },
                owner: service.name.to_string(),
                kind: FrontendKind::Balanced { backends: usable(all, *address) },
            }
        })
    })
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
