//! Objects with the status a cluster would show, made from conditions.
//!
//! Deciding rooms say what holds; here the times are added, and kept while a condition does not change, as
//! whoever writes a status has to (`lastTransitionTime`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use mesh_k8s_api::{Kind, ObjectSet, Resource, Stored};
use mesh_model::address::AddressAssignments;
use mesh_model::l7::AttachedRoutes;
use mesh_model::{ConditionIntent, ConditionScope, ConditionStatus, ObjectKey};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::objects;

/// A condition, and since when its status is what it is.
#[derive(Clone, Debug)]
pub(crate) struct Dated {
    /// The condition.
    pub(crate) condition: ConditionIntent,
    /// Since when.
    pub(crate) since: Timestamp,
}

/// What there is to say, all at one moment.
pub(crate) struct Known<'a> {
    /// The objects.
    pub(crate) objects: &'a ObjectSet,
    /// Every condition of every object.
    pub(crate) conditions: &'a [Dated],
    /// Addresses that Ingresses and Gateways were given.
    pub(crate) addresses: &'a AddressAssignments,
    /// Routes of the Gateways' listeners.
    pub(crate) attached: &'a [AttachedRoutes],
}

/// A condition that is another one than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    /// The object, `Kind namespace/name`.
    pub(crate) object: String,
    /// The listener or the parent it is about; empty for the whole object.
    pub(crate) scope: String,
    /// Type of the condition.
    pub(crate) condition: String,
    /// Whether it asks for somebody's attention.
    pub(crate) is_bad: bool,
    /// Status, as in the object.
    pub(crate) status: &'static str,
    /// Reason.
    pub(crate) reason: String,
    /// For people.
    pub(crate) message: String,
}

/// Remembers since when each condition is what it is.
#[derive(Default)]
pub(crate) struct Calendar {
    since: BTreeMap<ConditionId, (ConditionStatus, Timestamp)>,
}

/// What makes a condition the same one over time.
type ConditionId = (ObjectKey, ConditionScope, String);

impl Calendar {
    /// Dates conditions, and tells those whose status is another one than before (of new ones only the bad).
    /// Conditions that are gone are forgotten.
    pub(crate) fn date(
        &mut self,
        conditions: Vec<ConditionIntent>,
        now: Timestamp,
    ) -> (Vec<Dated>, Vec<Transition>) {
        let mut since = BTreeMap::new();
        let mut transitions = Vec::new();
        let mut dated = Vec::with_capacity(conditions.len());
        for condition in conditions {
            let id = (condition.origin.object.clone(), condition.scope.clone(), condition.kind.clone());
            let at = match self.since.get(&id) {
                Some((status, at)) if *status == condition.status => *at,
                known => {
                    if known.is_some() || is_bad(&condition) {
                        transitions.push(transition(&condition));
                    }
                    now
                }
            };
            since.insert(id, (condition.status, at));
            dated.push(Dated { condition, since: at });
        }
        self.since = since;
        (dated, transitions)
    }
}

/// The objects of a kind that are ours, that is, that carry a condition, with their status and in the order of
/// their names. Made when somebody asks: cost is a walk over all conditions, and a document for each object.
pub(crate) fn documents(known: &Known<'_>, kind: Kind) -> Vec<Value> {
    let mut by_object: BTreeMap<&ObjectKey, Vec<&Dated>> = BTreeMap::new();
    for dated in known.conditions.iter().filter(|dated| dated.condition.origin.object.kind == kind.as_str()) {
        by_object.entry(&dated.condition.origin.object).or_default().push(dated);
    }
    let mut attached: BTreeMap<&ObjectKey, Vec<&AttachedRoutes>> = BTreeMap::new();
    for routes in known.attached {
        attached.entry(&routes.listener.object).or_default().push(routes);
    }
    let ours = by_object.into_iter().filter_map(|(object, conditions)| {
        let attached = attached.get(object).map_or(&[][..], Vec::as_slice);
        document(known, object, &conditions, attached)
    });
    ours.collect()
}

fn transition(condition: &ConditionIntent) -> Transition {
    Transition {
        object: condition.origin.object.to_string(),
        scope: scope_name(&condition.scope),
        condition: condition.kind.clone(),
        is_bad: is_bad(condition),
        status: status_name(condition.status),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
    }
}

/// A part of a status in words, empty for the whole object.
pub(crate) fn scope_name(scope: &ConditionScope) -> String {
    match scope {
        ConditionScope::Object => String::new(),
        ConditionScope::Listener(name) => format!("listener {name}"),
        ConditionScope::Parent(parent) => {
            let section = parent.section.as_ref().map(|section| format!(" section {section}"));
            let port = parent.port.map(|port| format!(" port {port}"));
            format!("parent {}{}{}", parent.object, section.unwrap_or_default(), port.unwrap_or_default())
        }
    }
}

/// As the status of an object spells it.
pub(crate) fn status_name(status: ConditionStatus) -> &'static str {
    match status {
        ConditionStatus::True => "True",
        ConditionStatus::False => "False",
        ConditionStatus::Unknown => "Unknown",
    }
}

fn document(
    known: &Known<'_>,
    key: &ObjectKey,
    conditions: &[&Dated],
    attached: &[&AttachedRoutes],
) -> Option<Value> {
    let addresses = known.addresses.get(key).map_or(&[][..], Vec::as_slice);
    let whole = || conditions_of(conditions, &[&ConditionScope::Object]);
    match key.kind.as_str() {
        "Ingress" => {
            let object = known.objects.ingresses.get(&key.name)?;
            let status = json!({
                "loadBalancer": {"ingress": addresses.iter().map(balancer_ingress).collect::<Vec<_>>()},
                "conditions": whole(),
            });
            Some(with_status(object, status))
        }
        "Gateway" => {
            let object = known.objects.gateways.get(&key.name)?;
            let listeners: Vec<Value> =
                attached.iter().map(|attached| listener_status(attached, conditions)).collect();
            let status = json!({
                "addresses": addresses.iter().map(|a| json!({"type": "IPAddress", "value": a})).collect::<Vec<_>>(),
                "conditions": whole(),
                "listeners": listeners,
            });
            Some(with_status(object, status))
        }
        "GatewayClass" => {
            let object = known.objects.gateway_classes.get(&key.name.name)?;
            let status = json!({"conditions": whole()});
            Some(with_status(object, status))
        }
        "HTTPRoute" => {
            let object = known.objects.http_routes.get(&key.name)?;
            let status = json!({"parents": parents(conditions)});
            Some(with_status(object, status))
        }
        _ => None,
    }
}

fn balancer_ingress(address: &IpAddr) -> Value {
    json!({"ip": address, "ports": [{"port": 80, "protocol": "TCP"}, {"port": 443, "protocol": "TCP"}]})
}

fn listener_status(attached: &AttachedRoutes, conditions: &[&Dated]) -> Value {
    let kinds: Vec<Value> = attached
        .supported_kinds
        .iter()
        .map(|kind| json!({"group": "gateway.networking.k8s.io", "kind": kind}))
        .collect();
    let section = attached.listener.section.clone();
    json!({
        "name": section.clone(),
        "attachedRoutes": attached.count,
        "supportedKinds": kinds,
        "conditions": conditions_of(conditions, &[&ConditionScope::Listener(section)]),
    })
}

fn parents(conditions: &[&Dated]) -> Vec<Value> {
    let mut by_parent: BTreeMap<&ConditionScope, Value> = BTreeMap::new();
    for Dated { condition, .. } in conditions {
        let ConditionScope::Parent(parent) = &condition.scope else { continue };
        by_parent.entry(&condition.scope).or_insert_with(|| {
            let mut reference = Map::new();
            reference.insert("group".to_owned(), json!(parent.object.group));
            reference.insert("kind".to_owned(), json!(parent.object.kind));
            reference.insert("namespace".to_owned(), json!(parent.object.name.namespace));
            reference.insert("name".to_owned(), json!(parent.object.name.name));
            reference.extend(parent.section.as_ref().map(|s| ("sectionName".to_owned(), json!(s))));
            reference.extend(parent.port.map(|p| ("port".to_owned(), json!(p))));
            json!({
                "parentRef": reference,
                "controllerName": parent.controller,
                // What is wrong with the whole route is wrong at each of its parents: there is no other place
                // for it in the status of a route.
                "conditions": conditions_of(conditions, &[&condition.scope, &ConditionScope::Object]),
            })
        });
    }
    by_parent.into_values().collect()
}

/// Conditions of one part. Of several with one type (found by different stages) the worst is shown.
fn conditions_of(conditions: &[&Dated], scopes: &[&ConditionScope]) -> Vec<Value> {
    let mut by_type: BTreeMap<&str, &Dated> = BTreeMap::new();
    for dated in conditions.iter().filter(|dated| scopes.contains(&&dated.condition.scope)) {
        by_type
            .entry(&dated.condition.kind)
            .and_modify(|shown| {
                if !is_bad(&shown.condition) {
                    *shown = dated;
                }
            })
            .or_insert(dated);
    }
    let shown = by_type.into_values().map(|Dated { condition, since }| {
        let mut message = condition.message.clone();
        // Whoever reads an object of a cluster knows where it is from.
        let is_of_file = !matches!(condition.origin.source.as_str(), "" | "api");
        if is_bad(condition) && is_of_file {
            message = format!("{}: {message}", condition.origin.source);
        }
        json!({
            "type": condition.kind,
            "status": condition.status,
            "reason": condition.reason,
            "message": message,
            "observedGeneration": condition.origin.generation,
            "lastTransitionTime": since.to_string(),
        })
    });
    shown.collect()
}

/// Whether a condition asks for somebody's attention. Most types are good when true; some are when false.
pub(crate) fn is_bad(condition: &ConditionIntent) -> bool {
    let good = match condition.kind.as_str() {
        "Conflicted" | "PartiallyInvalid" | "OverlappingTLSConfig" => ConditionStatus::False,
        _ => ConditionStatus::True,
    };
    condition.status != good
}

/// The object as it was read, its own status replaced.
fn with_status<T: Resource + Serialize>(object: &Stored<T>, status: Value) -> Value {
    let mut document = objects::plain(object);
    if let Value::Object(fields) = &mut document {
        fields.insert("status".to_owned(), status);
    }
    document
}

#[cfg(test)]
mod tests;
