//! Pure: what is to be written into a status, so that what others wrote there stays and what is right is left alone.

use std::collections::BTreeMap;

use mesh_k8s_api::Kind;
use serde_json::{Map, Value, json};

/// Longest message of a condition (`meta/v1` Condition).
const LONGEST_MESSAGE: usize = 32768;

/// The status that `current` becomes when it says `desired`; `None` when it says so already.
///
/// `desired` has the fields that are ours. Of conditions, the time of the last transition stays while the status of
/// the condition is the same, and conditions that others added under a prefix of theirs stay. Of a route, the
/// parents that other controllers than `ours` answer for stay.
pub(crate) fn merged(kind: Kind, current: &Value, desired: &Value, ours: &[String]) -> Option<Value> {
    let mut fields = Map::new();
    match kind {
        // An Ingress has no other field.
        Kind::Ingress => {
            let balancer = |status: &Value| json!({"ingress": list(&status["loadBalancer"]["ingress"])});
            fields.insert("loadBalancer".to_owned(), balancer(desired));
            return (balancer(current) != balancer(desired)).then_some(Value::Object(fields));
        }
        Kind::HttpRoute => {
            fields.insert("parents".to_owned(), Value::Array(parents(current, desired, ours)));
        }
        Kind::GatewayClass => {
            fields
                .insert("conditions".to_owned(), conditions(&current["conditions"], &desired["conditions"]));
        }
        Kind::Gateway => {
            fields.insert("addresses".to_owned(), json!(list(&desired["addresses"])));
            fields
                .insert("conditions".to_owned(), conditions(&current["conditions"], &desired["conditions"]));
            fields.insert("listeners".to_owned(), Value::Array(listeners(current, desired)));
        }
        _ => return None,
    }
    let is_same = fields.iter().all(|(field, value)| {
        // A list that is not there and one that is empty say the same.
        sorted(list(value)) == sorted(list(&current[field]))
    });
    (!is_same).then_some(Value::Object(fields))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Sets have no order: neither conditions by their type, nor listeners by their name, nor parents.
fn sorted(values: &[Value]) -> Vec<Value> {
    let mut values: Vec<Value> = values.to_vec();
    for value in &mut values {
        if let Some(conditions) = value.get_mut("conditions").and_then(Value::as_array_mut) {
            conditions.sort_by_key(|condition| condition["type"].to_string());
        }
    }
    values.sort_by_key(Value::to_string);
    values
}

fn conditions(current: &Value, desired: &Value) -> Value {
    let current = list(current);
    let mut merged: BTreeMap<String, Value> = BTreeMap::new();
    let kind_of = |condition: &Value| condition["type"].as_str().unwrap_or_default().to_owned();
    for other in current.iter().filter(|condition| is_of_others(&kind_of(condition))) {
        merged.insert(kind_of(other), other.clone());
    }
    for condition in list(desired) {
        let mut condition = condition.clone();
        let old = current.iter().find(|old| old["type"] == condition["type"]);
        if let Some(old) = old.filter(|old| old["status"] == condition["status"]) {
            condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
        }
        if let Some(message) = condition["message"].as_str().filter(|message| message.len() > LONGEST_MESSAGE)
        {
            condition["message"] = json!(&message[..message.floor_char_boundary(LONGEST_MESSAGE)]);
        }
        merged.insert(kind_of(&condition), condition);
    }
    merged.into_values().collect()
}

/// Types without a prefix are the specification's, and ours to say.
fn is_of_others(kind: &str) -> bool {
    kind.split_once('/').is_some_and(|(domain, _)| !matches!(domain, "millrace.io" | "cilium.io"))
}

fn listeners(current: &Value, desired: &Value) -> Vec<Value> {
    let old = |name: &Value| list(&current["listeners"]).iter().find(|listener| listener["name"] == *name);
    let merged = list(&desired["listeners"]).iter().map(|listener| {
        let mut listener = listener.clone();
        let before = old(&listener["name"]).map_or(&Value::Null, |old| &old["conditions"]);
        listener["conditions"] = conditions(before, &listener["conditions"]);
        listener
    });
    merged.collect()
}

fn parents(current: &Value, desired: &Value, ours: &[String]) -> Vec<Value> {
    let current = list(&current["parents"]);
    let desired = list(&desired["parents"]);
    let is_ours = |name: &Value| name.as_str().is_some_and(|name| ours.iter().any(|ours| ours == name));
    let others = current.iter().filter(|parent| !is_ours(&parent["controllerName"]));
    let said = desired.iter().map(|parent| {
        let mut parent = parent.clone();
        let is_same =
            |old: &&Value| ["parentRef", "controllerName"].iter().all(|field| old[field] == parent[field]);
        let before = current.iter().find(is_same).map_or(&Value::Null, |old| &old["conditions"]);
        parent["conditions"] = conditions(before, &parent["conditions"]);
        parent
    });
    others.cloned().chain(said).collect()
}

#[cfg(test)]
mod tests;
