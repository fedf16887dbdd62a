//! One HTTPRoute to its row and its conditions.

use std::collections::{BTreeMap, BTreeSet};

use mesh_model::l7::{ListenerKey, MatchPrecedence, Route, RouteParent, Translation};
use mesh_model::{ConditionScope, Hostname, NamespacedName, Note, Origin};

use crate::api::{HttpRoute, HttpRouteUseDefaultGateways};
use crate::context::Context;
use crate::gateway::Gateway;
use crate::parents::{self, Attachment, Candidate, Parent};
use crate::report::{Conditions, Refusal, count, join};
use crate::rules::{self, Rules};

/// Makes the row of a route, counts it at the listeners that take it, and says what is to be said about it.
pub(crate) fn translate(
    origin: &Origin,
    route: &HttpRoute,
    gateways: &mut BTreeMap<NamespacedName, Gateway>,
    foreign: &BTreeSet<NamespacedName>,
    context: &Context<'_>,
    out: &mut Translation,
) {
    if route.spec.use_default_gateways == Some(HttpRouteUseDefaultGateways::All) {
        let message = "default Gateways are not supported yet; name the Gateway in spec.parentRefs";
        out.notes.push(Refusal::new("spec.useDefaultGateways", "UnsupportedValue", message).note(origin));
    }
    let references = route.spec.parent_refs.as_deref().unwrap_or_default();
    if references.is_empty() {
        let message = "is empty, so the route serves nothing; name a Gateway or a Service";
        out.notes.push(Refusal::new("spec.parentRefs", "NoParents", message).note(origin));
        return;
    }
    let given = route.spec.hostnames.as_deref().unwrap_or_default();
    let hostnames = hostnames(given, origin, &mut out.notes);
    let candidate = Candidate { origin, hostnames: &hostnames };
    let mut parents = parents::read(&candidate, references, gateways, foreign, context, &mut out.notes);
    if parents.is_empty() {
        // None of them is ours: nothing may be said about the route.
        return;
    }
    let rules = rules::read(route.spec.rules.as_deref().unwrap_or_default(), origin, context, &mut out.notes);
    if let Some(refusal) = refusal_of_all(&rules, given, &hostnames) {
        for parent in &mut parents {
            if parent.attachment.is_ok() {
                parent.attachment = Err(refusal.clone());
            }
        }
    }
    for parent in &parents {
        add_conditions(origin, parent, &rules, out);
    }
    let row_parents = attach(&parents, gateways);
    if !row_parents.is_empty() {
        out.fragments.routes.push(Route {
            origin: origin.clone(),
            parents: row_parents,
            hostnames,
            wildcard_one_label: false,
            precedence: MatchPrecedence::GatewayApi,
            rules: rules.rows,
        });
    }
}

/// The hosts of the route, sorted and unique; those that are none are noted.
fn hostnames(given: &[String], origin: &Origin, notes: &mut Vec<Note>) -> Vec<Hostname> {
    let mut hostnames = BTreeSet::new();
    for (index, text) in given.iter().enumerate() {
        let message = match text.parse::<Hostname>() {
            Ok(Hostname::Any) => {
                format!("{text:?} stands for no host; leave spec.hostnames out for every host")
            }
            Ok(_) if text.parse::<std::net::IpAddr>().is_ok() => {
                format!("{text:?} is an IP address; name a host")
            }
            Ok(hostname) => {
                hostnames.insert(hostname);
                continue;
            }
            Err(error) => format!("{error}; write a name such as app.example.com or *.example.com"),
        };
        let field = format!("spec.hostnames[{index}]");
        notes.push(Refusal::new(field, "InvalidHost", message).note(origin));
    }
    hostnames.into_iter().collect()
}

/// Why nothing of the route can be served, if so.
fn refusal_of_all(rules: &Rules, given: &[String], hostnames: &[Hostname]) -> Option<Refusal> {
    if !given.is_empty() && hostnames.is_empty() {
        // Without this the route would answer for every host.
        let message = "holds no host name; correct one, or leave the field out for every host";
        return Some(Refusal::new("spec.hostnames", "UnsupportedValue", message));
    }
    (rules.refused.len() == rules.total).then(|| {
        let first = &rules.refused[0];
        let others = join(&rules.refused[1..]);
        let message =
            if others.is_empty() { first.message.clone() } else { format!("{}; {others}", first.message) };
        Refusal::new(&first.field, first.reason, message)
    })
}

fn add_conditions(origin: &Origin, parent: &Parent, rules: &Rules, out: &mut Translation) {
    let mut said = Conditions::new(origin, ConditionScope::Parent(parent.reference.clone()));
    match &parent.attachment {
        Ok(Attachment::Listeners(gateway, listeners)) => {
            let message = format!("attached to {} of Gateway {gateway}", count(listeners.len(), "listener"));
            said.add("Accepted", true, "Accepted", message);
        }
        Ok(Attachment::Ports(ports)) => {
            let message =
                format!("attached to {} ports of Service {}", ports.len(), parent.reference.object.name);
            said.add("Accepted", true, "Accepted", message);
        }
        Err(refusal) => said.add("Accepted", false, refusal.reason, refusal.text()),
    }
    if parent.attachment.is_ok() && !rules.refused.is_empty() {
        // The specification asks for the first two words.
        let message = format!(
            "Dropped Rule {}; a dropped rule answers 500 where its matches are valid",
            join(&rules.refused)
        );
        said.add("PartiallyInvalid", true, "UnsupportedValue", message);
    }
    match rules.unresolved.first() {
        Some(first) => said.add("ResolvedRefs", false, first.reason, join(&rules.unresolved)),
        None => said.add("ResolvedRefs", true, "ResolvedRefs", "all backends can be used"),
    }
    out.conditions.append(&mut said.rows);
}

/// Counts the route at its listeners and returns the parents of its row: those that are served, sorted.
fn attach(parents: &[Parent], gateways: &mut BTreeMap<NamespacedName, Gateway>) -> Vec<RouteParent> {
    let mut row_parents = BTreeSet::new();
    let mut counted: BTreeSet<ListenerKey> = BTreeSet::new();
    for parent in parents {
        match &parent.attachment {
            Ok(Attachment::Ports(ports)) => {
                row_parents.extend(ports.iter().cloned().map(RouteParent::Service))
            }
            Ok(Attachment::Listeners(name, indexes)) => {
                let gateway = gateways.get_mut(name).expect("attached to a Gateway of this map");
                let refused = gateway.is_refused();
                for index in indexes {
                    let listener = &mut gateway.listeners[*index];
                    // Two parentRefs may name one listener.
                    if counted.insert(listener.key.clone()) {
                        listener.attached += 1;
                    }
                    if !refused && listener.is_served() {
                        row_parents.insert(RouteParent::Listener(listener.key.clone()));
                    }
                }
            }
            Err(_) => {}
        }
    }
    row_parents.into_iter().collect()
}
