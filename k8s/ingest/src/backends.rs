//! EndpointSlices to the backends of Services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use mesh_k8s_api::core::Service as ServiceObject;
use mesh_k8s_api::discovery::{Endpoint, EndpointPort, EndpointSlice};
use mesh_k8s_api::meta::IntOrString;
use mesh_k8s_api::{ObjectSet, Stored};
use mesh_model::service::{
    Backend, BackendState, Protocol, Service, ServiceBackends, ServiceKind, ServicePort,
};
use mesh_model::{NamespacedName, Note};

use crate::SERVICE_NAME;
use crate::note::warning;
use crate::service::{port, protocol};

/// The slices of one Service, in order of their name.
type Slices = Vec<Arc<Stored<EndpointSlice>>>;

/// Slices by the Service that their label names.
pub(crate) fn by_service(objects: &ObjectSet, notes: &mut Vec<Note>) -> BTreeMap<NamespacedName, Slices> {
    let mut by_service: BTreeMap<NamespacedName, Slices> = BTreeMap::new();
    for (name, stored) in &objects.endpoint_slices {
        let label = stored.object.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
        let origin = || stored.origin().at(format!("metadata.labels[{SERVICE_NAME}]"));
        let Some(label) = label else {
            let message =
                "the label is missing, so the slice belongs to no Service; add it with the Service's name";
            notes.push(warning(origin(), "NoService", message));
            continue;
        };
        let service = NamespacedName::new(&name.namespace, label);
        if !objects.services.contains_key(&service) {
            let message = format!("there is no Service {service}; correct the label, or add the Service");
            notes.push(warning(origin(), "NoService", message));
        }
        by_service.entry(service).or_default().push(Arc::clone(stored));
    }
    by_service
}

/// The backends of each port of `service`: sorted, unique by address and port; one that is active in any
/// slice is active.
pub(crate) fn read(
    object: &Stored<ServiceObject>,
    service: &Service,
    slices: &[Arc<Stored<EndpointSlice>>],
    notes: &mut Vec<Note>,
) -> ServiceBackends {
    let spec = object.object.spec.as_ref();
    let every = spec.and_then(|spec| spec.publish_not_ready_addresses).unwrap_or_default();
    let mut ports = BTreeMap::new();
    for service_port in &service.ports {
        let mut found: BTreeMap<(IpAddr, u16), BackendState> = BTreeMap::new();
        let mut offered = BTreeSet::new();
        let mut named = false;
        for slice in slices {
            for port in slice.object.ports.iter().flatten() {
                offered.insert(port.name.clone().unwrap_or_default());
                let Some(number) = target(object, service_port, port) else { continue };
                named = true;
                for endpoint in &slice.object.endpoints {
                    let Some(state) = state(endpoint, every) else { continue };
                    for address in endpoint.addresses.iter().filter_map(|text| text.parse().ok()) {
                        let known = found.entry((address, number)).or_insert(state);
                        *known = (*known).min(state);
                    }
                }
            }
        }
        if !slices.is_empty() && !named && !matches!(service.kind, ServiceKind::ExternalName(_)) {
            notes.push(no_such_port(service, service_port, &offered));
        }
        let backends =
            found.into_iter().map(|((address, port), state)| Backend { address, port, state }).collect();
        ports.insert((service_port.port, service_port.protocol), backends);
    }
    for slice in slices.iter().filter(|slice| slice.object.address_type == "FQDN") {
        let message =
            "endpoints by DNS name are not balanced; give their addresses in a slice of type IPv4 or IPv6";
        notes.push(warning(slice.origin().at("addressType"), "UnsupportedAddressType", message));
    }
    ServiceBackends { service: service.name.clone(), ports }
}

/// The number of `port` of a slice, if it is the target of `service_port`: names and protocols agree. A
/// slice's port without a number stands for the Service's own target port.
fn target(object: &Stored<ServiceObject>, service_port: &ServicePort, from: &EndpointPort) -> Option<u16> {
    let same_name = from.name.as_deref().unwrap_or_default() == service_port.name;
    if !same_name || protocol(from.protocol.as_deref()) != Some(service_port.protocol) {
        return None;
    }
    if let Some(number) = from.port {
        return port(number);
    }
    let ports = object.object.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let own = ports.into_iter().flatten().find(|p| {
        p.port == i32::from(service_port.port)
            && protocol(p.protocol.as_deref()) == Some(service_port.protocol)
    });
    match own.and_then(|own| own.target_port.as_ref()) {
        Some(IntOrString::Int(number)) => port(*number),
        Some(IntOrString::String(_)) => None,
        None => Some(service_port.port),
    }
}

/// Whether an endpoint gets connections: `None` when it gets none. Unset conditions mean ready, and serving
/// as ready, as the API says.
fn state(endpoint: &Endpoint, every: bool) -> Option<BackendState> {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let serving = conditions.serving.unwrap_or(ready);
    match (ready || every, serving && conditions.terminating.unwrap_or_default()) {
        (true, _) => Some(BackendState::Active),
        (false, true) => Some(BackendState::Terminating),
        (false, false) => None,
    }
}

fn no_such_port(service: &Service, port: &ServicePort, offered: &BTreeSet<String>) -> Note {
    let index = service.ports.iter().position(|other| other == port).unwrap_or_default();
    let protocol = match port.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    };
    let offered: Vec<_> = offered.iter().map(|name| format!("{name:?}")).collect();
    warning(
        service.origin.at(format!("spec.ports[{index}]")),
        "NoSuchEndpointPort",
        format!(
            "no EndpointSlice of this Service has a {protocol} port named {:?} (they have {}), so the port \
             has no backends; give the slice's port the name of the Service's port",
            port.name,
            if offered.is_empty() { "none".to_owned() } else { offered.join(", ") },
        ),
    )
}
