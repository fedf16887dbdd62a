//! Backends of an Ingress: references to Services of its own namespace.

use mesh_k8s_api::networking::IngressBackend;
use mesh_model::NamespacedName;
use mesh_model::l7::{Action, Forward, HeaderMutation, Respond, Rewrite, WeightedBackend};
use mesh_model::service::{Protocol, Service, ServiceIndex, ServiceKind, ServicePortKey};

use crate::report::{Effect, Report};

/// What is done with the requests for `backend`. One that cannot be used is reported, and its requests are
/// answered with 503, as those for a Service without endpoints are.
pub(crate) fn action(
    backend: &IngressBackend,
    namespace: &str,
    field: &str,
    services: &ServiceIndex,
    report: &mut Report,
) -> Action {
    match resolve(backend, namespace, services) {
        Ok(port) => Action::Forward(Forward {
            backends: vec![WeightedBackend {
                backend: Some(port),
                weight: 1,
                request_headers: HeaderMutation::default(),
                response_headers: HeaderMutation::default(),
            }],
            rewrite: Rewrite::default(),
        }),
        Err(unusable) => {
            report.add(
                Effect::Unresolved,
                &format!("{field}{}", unusable.field),
                unusable.reason,
                format!("{}; until then its requests are answered with 503", unusable.message),
            );
            Action::Respond(Respond { status: 503, body: "no healthy upstream".to_owned() })
        }
    }
}

struct Unusable {
    field: &'static str,
    reason: &'static str,
    message: String,
}

fn resolve(
    backend: &IngressBackend,
    namespace: &str,
    services: &ServiceIndex,
) -> Result<ServicePortKey, Unusable> {
    let unusable = |field, reason, message| Unusable { field, reason, message };
    if let Some(resource) = &backend.resource {
        return Err(unusable(
            ".resource",
            "InvalidKind",
            format!(
                "{} {} cannot be a backend: only Services can; name one under service instead",
                resource.kind, resource.name
            ),
        ));
    }
    let Some(reference) = &backend.service else {
        return Err(unusable(
            "",
            "InvalidKind",
            "names no Service; add service.name and service.port".to_owned(),
        ));
    };
    let name = NamespacedName::new(namespace, &reference.name);
    let Some(service) = services.get(&name) else {
        return Err(unusable(
            ".service.name",
            "BackendNotFound",
            format!("Service {name} does not exist; create it or correct the name"),
        ));
    };
    if let ServiceKind::ExternalName(target) = &service.kind {
        return Err(unusable(
            ".service.name",
            "BackendNotFound",
            format!("Service {name} is an alias of {target} and has no endpoints; name a Service that has"),
        ));
    }
    let port = reference.port.as_ref();
    let named = port.and_then(|port| port.name.as_deref()).filter(|name| !name.is_empty());
    let number = port.and_then(|port| port.number).filter(|number| *number != 0);
    let found = match (named, number) {
        (Some(wanted), None) => {
            service.ports.iter().find(|port| port.protocol == Protocol::Tcp && port.name == wanted)
        }
        (None, Some(number)) => u16::try_from(number).ok().and_then(|number| service.tcp_port(number)),
        _ => {
            return Err(unusable(
                ".service.port",
                "InvalidPort",
                format!("needs either a name or a number; Service {name} has {}", tcp_ports(service)),
            ));
        }
    };
    match found {
        Some(port) => Ok(ServicePortKey { service: name, port: port.port }),
        None => {
            let wanted =
                named.map_or_else(|| number.unwrap_or_default().to_string(), |name| format!("{name:?}"));
            Err(unusable(
                ".service.port",
                "BackendNotFound",
                format!("Service {name} has no TCP port {wanted}; it has {}", tcp_ports(service)),
            ))
        }
    }
}

fn tcp_ports(service: &Service) -> String {
    let ports: Vec<String> = service
        .ports
        .iter()
        .filter(|port| port.protocol == Protocol::Tcp)
        .map(|port| {
            if port.name.is_empty() {
                port.port.to_string()
            } else {
                format!("{} ({})", port.port, port.name)
            }
        })
        .collect();
    if ports.is_empty() { "no TCP port".to_owned() } else { ports.join(", ") }
}
