//! Backends of a rule.

use mesh_model::NamespacedName;
use mesh_model::l7::{HeaderMutation, WeightedBackend};
use mesh_model::service::{ServiceKind, ServicePortKey};

use crate::api::{HttpRouteRulesBackendRefs, HttpRouteRulesBackendRefsFiltersType};
use crate::context::Context;
use crate::grants::{Grants, GroupKind, HTTP_ROUTE, SERVICE};
use crate::headers::modifier;
use crate::report::Refusal;

/// The largest weight of the API.
const MAX_WEIGHT: u32 = 1_000_000;

/// Reads one backendRef of a route in `namespace`. One that cannot be used keeps its share and goes to
/// `unresolved`; an error concerns the whole rule.
pub(crate) fn read(
    given: &HttpRouteRulesBackendRefs,
    namespace: &str,
    field: &str,
    context: &Context<'_>,
    unresolved: &mut Vec<Refusal>,
) -> Result<WeightedBackend, Refusal> {
    let weight = match given.weight {
        None => 1,
        Some(weight) => match u32::try_from(weight) {
            Ok(weight) if weight <= MAX_WEIGHT => weight,
            _ => {
                let message = format!("{weight} is no weight; use 0 to {MAX_WEIGHT}");
                return Err(Refusal::new(format!("{field}.weight"), "UnsupportedValue", message));
            }
        },
    };
    let mut backend = WeightedBackend {
        backend: None,
        weight,
        request_headers: HeaderMutation::default(),
        response_headers: HeaderMutation::default(),
    };
    read_filters(given, field, &mut backend)?;
    match resolve(given, namespace, field, context) {
        Ok(port) => backend.backend = Some(port),
        Err(refusal) => unresolved.push(refusal),
    }
    Ok(backend)
}

fn read_filters(
    given: &HttpRouteRulesBackendRefs,
    field: &str,
    backend: &mut WeightedBackend,
) -> Result<(), Refusal> {
    let mut seen: Vec<&HttpRouteRulesBackendRefsFiltersType> = Vec::new();
    for (index, filter) in given.filters.iter().flatten().enumerate() {
        let field = format!("{field}.filters[{index}]");
        if seen.contains(&&filter.r#type) {
            let message = format!("{:?} is there twice; put both into one", filter.r#type);
            return Err(Refusal::new(field, "UnsupportedValue", message));
        }
        seen.push(&filter.r#type);
        match (&filter.r#type, &filter.request_header_modifier, &filter.response_header_modifier) {
            (HttpRouteRulesBackendRefsFiltersType::RequestHeaderModifier, Some(given), _) => {
                backend.request_headers =
                    modifier!(Other, given).read(&format!("{field}.requestHeaderModifier"))?;
            }
            (HttpRouteRulesBackendRefsFiltersType::ResponseHeaderModifier, _, Some(given)) => {
                backend.response_headers =
                    modifier!(Other, given).read(&format!("{field}.responseHeaderModifier"))?;
            }
            (kind, ..) => {
                let message = format!(
                    "filter {kind:?} is not supported at a backend, or has no settings; \
                     RequestHeaderModifier and ResponseHeaderModifier are"
                );
                return Err(Refusal::new(format!("{field}.type"), "UnsupportedValue", message));
            }
        }
    }
    Ok(())
}

fn resolve(
    given: &HttpRouteRulesBackendRefs,
    namespace: &str,
    field: &str,
    context: &Context<'_>,
) -> Result<ServicePortKey, Refusal> {
    let refuse = |reason, message: String| Err(Refusal::new(field, reason, message));
    let asked = GroupKind {
        group: given.group.as_deref().unwrap_or_default(),
        kind: given.kind.as_deref().unwrap_or("Service"),
    };
    if asked != SERVICE {
        let message =
            format!("{} in group {:?} is not supported as a backend; use a Service", asked.kind, asked.group);
        return refuse("InvalidKind", message);
    }
    let name = NamespacedName::new(given.namespace.as_deref().unwrap_or(namespace), &given.name);
    // Before anything is said about the Service: whether it exists is its namespace's business.
    if !context.grants.permit(HTTP_ROUTE, namespace, SERVICE, &name) {
        return refuse("RefNotPermitted", Grants::advice(HTTP_ROUTE, namespace, SERVICE, &name));
    }
    let Some(service) = context.services.get(&name) else {
        return refuse(
            "BackendNotFound",
            format!("Service {name} does not exist; create it or correct the name"),
        );
    };
    if let ServiceKind::ExternalName(target) = &service.kind {
        let message =
            format!("Service {name} is an alias of {target} and has no endpoints; name a Service that has");
        return refuse("BackendNotFound", message);
    }
    let Some(port) = given.port else {
        return refuse("BackendNotFound", format!("names no port of Service {name}; add port"));
    };
    match u16::try_from(port).ok().and_then(|port| service.tcp_port(port)) {
        Some(port) => Ok(ServicePortKey { service: name, port: port.port }),
        None => {
            refuse("BackendNotFound", format!("Service {name} has no TCP port {port}; correct the number"))
        }
    }
}
