//! The parents of an HTTPRoute: listeners of Gateways, and ports of Services.

use std::collections::{BTreeMap, BTreeSet};

use mesh_model::condition::ParentRef;
use mesh_model::service::{Protocol, ServiceKind, ServicePortKey};
use mesh_model::{Hostname, NamespacedName, Note, ObjectKey, Origin};

use crate::api::HttpRouteParentRefs;
use crate::class::CONTROLLER;
use crate::context::Context;
use crate::gateway::Gateway;
use crate::grants::{GATEWAY, GATEWAY_GROUP, GroupKind, HTTP_ROUTE, SERVICE};
use crate::listener::{AllowedNamespaces, ListenerState};
use crate::report::Refusal;

/// A parent that we answer for.
#[derive(Debug)]
pub(crate) struct Parent {
    pub(crate) reference: ParentRef,
    /// What the route hangs from, or why it does not.
    pub(crate) attachment: Result<Attachment, Refusal>,
}

/// What a route hangs from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// Listeners of a Gateway, by index; at least one.
    Listeners(NamespacedName, Vec<usize>),
    /// Ports of a Service; at least one.
    Ports(Vec<ServicePortKey>),
}

/// A route, as far as its parents care.
pub(crate) struct Candidate<'a> {
    pub(crate) origin: &'a Origin,
    /// Its hosts; none: every host.
    pub(crate) hostnames: &'a [Hostname],
}

/// Looks the parents up. References to what is not ours are left out; those that nobody can answer for are
/// noted.
pub(crate) fn read(
    candidate: &Candidate<'_>,
    references: &[HttpRouteParentRefs],
    gateways: &BTreeMap<NamespacedName, Gateway>,
    foreign: &BTreeSet<NamespacedName>,
    context: &Context<'_>,
    notes: &mut Vec<Note>,
) -> Vec<Parent> {
    let origin = candidate.origin;
    let mut parents: Vec<Parent> = Vec::new();
    for (index, given) in references.iter().enumerate() {
        let field = format!("spec.parentRefs[{index}]");
        let group = given.group.as_deref().unwrap_or(GATEWAY_GROUP);
        let kind = given.kind.as_deref().unwrap_or("Gateway");
        let namespace = given.namespace.as_deref().unwrap_or(&origin.object.name.namespace);
        let name = NamespacedName::new(namespace, &given.name);
        let reference = |controller: &str| ParentRef {
            object: ObjectKey::new(group, kind, name.clone()),
            section: given.section_name.clone(),
            port: given.port.and_then(|port| u16::try_from(port).ok()),
            controller: controller.to_owned(),
        };
        let asked = GroupKind { group, kind };
        let parent = if asked == GATEWAY {
            let Some(gateway) = gateways.get(&name) else {
                if !foreign.contains(&name) {
                    let message = format!("Gateway {name} does not exist; create it or correct the name");
                    notes.push(Refusal::new(field, "ParentNotFound", message).note(origin));
                }
                continue;
            };
            let attachment = attach_to_gateway(candidate, given, &field, &name, gateway, context);
            Parent { reference: reference(gateway.controller), attachment }
        } else if asked == SERVICE {
            let attachment = attach_to_service(origin, given, &field, &name, context);
            Parent { reference: reference(CONTROLLER), attachment }
        } else {
            let message =
                format!("{kind} in group {group:?} is not supported as a parent; use a Gateway or a Service");
            notes.push(Refusal::new(field, "InvalidKind", message).note(origin));
            continue;
        };
        if parents.iter().any(|earlier| earlier.reference == parent.reference) {
            let message = "repeats an earlier parentRef; remove it";
            notes.push(Refusal::new(field, "DuplicateParent", message).note(origin));
        } else {
            parents.push(parent);
        }
    }
    parents
}

fn attach_to_gateway(
    candidate: &Candidate<'_>,
    given: &HttpRouteParentRefs,
    field: &str,
    name: &NamespacedName,
    gateway: &Gateway,
    context: &Context<'_>,
) -> Result<Attachment, Refusal> {
    let refuse = |reason, message: String| Err(Refusal::new(field, reason, message));
    let mut chosen: Vec<usize> = (0..gateway.listeners.len()).collect();
    let mut keep = |test: &dyn Fn(&ListenerState) -> bool| {
        chosen.retain(|index| test(&gateway.listeners[*index]));
        !chosen.is_empty()
    };
    let section = given.section_name.as_ref();
    let port = given.port;
    let selected = keep(&|listener| {
        section.is_none_or(|section| *section == listener.key.section)
            && port.is_none_or(|port| listener.port.is_some_and(|own| i32::from(own) == port))
    });
    if !selected {
        let wanted = match (section, port) {
            (Some(section), Some(port)) => format!("named {section} on port {port}"),
            (Some(section), None) => format!("named {section}"),
            (None, Some(port)) => format!("on port {port}"),
            (None, None) => "at all".to_owned(),
        };
        let message = format!(
            "Gateway {name} has no listener {wanted}; correct sectionName and port, or add the listener"
        );
        return refuse("NoMatchingParent", message);
    }
    let namespace = &candidate.origin.object.name.namespace;
    let allowed = keep(&|listener| {
        let kind = listener.kinds.iter().any(|kind| kind == HTTP_ROUTE.kind);
        kind && match &listener.namespaces {
            AllowedNamespaces::All => true,
            AllowedNamespaces::Same => *namespace == name.namespace,
            AllowedNamespaces::Selected(selector) => context.namespaces.selected(selector, namespace),
        }
    });
    if !allowed {
        let message = format!(
            "no listener of Gateway {name} takes HTTPRoutes from namespace {namespace}; change allowedRoutes there"
        );
        return refuse("NotAllowedByListeners", message);
    }
    let met = keep(&|listener| match &listener.hostname {
        None => false,
        Some(own) => {
            candidate.hostnames.is_empty()
                || candidate.hostnames.iter().any(|hostname| own.intersect(hostname).is_some())
        }
    });
    if !met {
        let message =
            format!("no listener of Gateway {name} is for a host in spec.hostnames; change one or the other");
        return refuse("NoMatchingListenerHostname", message);
    }
    Ok(Attachment::Listeners(name.clone(), chosen))
}

fn attach_to_service(
    origin: &Origin,
    given: &HttpRouteParentRefs,
    field: &str,
    name: &NamespacedName,
    context: &Context<'_>,
) -> Result<Attachment, Refusal> {
    let refuse = |reason, message: String| Err(Refusal::new(field, reason, message));
    if name.namespace != origin.object.name.namespace {
        let message = format!(
            "routes for the clients of one namespace alone are not supported yet; move the route to namespace {}, \
             where it applies to all clients of Service {name}",
            name.namespace
        );
        return refuse("UnsupportedValue", message);
    }
    let Some(service) = context.services.get(name) else {
        let message = format!("Service {name} does not exist; create it or correct the name");
        return refuse("NoMatchingParent", message);
    };
    if service.cluster_ips.is_empty()
        || matches!(service.kind, ServiceKind::Headless | ServiceKind::ExternalName(_))
    {
        let message =
            format!("Service {name} has no cluster address for the route to apply to; use one that has");
        return refuse("UnsupportedValue", message);
    }
    let ports: Vec<ServicePortKey> = service
        .ports
        .iter()
        .filter(|port| port.protocol == Protocol::Tcp)
        .filter(|port| given.port.is_none_or(|wanted| i32::from(port.port) == wanted))
        .filter(|port| given.section_name.as_ref().is_none_or(|wanted| *wanted == port.name))
        .map(|port| ServicePortKey { service: name.clone(), port: port.port })
        .collect();
    if ports.is_empty() {
        let message =
            format!("Service {name} has no TCP port that port and sectionName ask for; correct them");
        return refuse("NoMatchingParent", message);
    }
    Ok(Attachment::Ports(ports))
}
