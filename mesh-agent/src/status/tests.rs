use std::sync::Arc;

use jiff::Timestamp;
use mesh_k8s_api::{Kind, Object, ObjectSet, Source, Stored};
use mesh_model::address::AddressAssignments;
use mesh_model::condition::ParentRef;
use mesh_model::{ConditionIntent, ConditionScope, ConditionStatus, NamespacedName, ObjectKey};
use serde_json::{Value, json};

use super::{Calendar, Known};

fn route() -> (ObjectSet, Arc<Stored<mesh_k8s_api::gateway::HttpRoute>>) {
    let object =
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {}}));
    let source = Source::File { path: "web.yaml".into(), document: 0 };
    let object = object.expect("an HTTPRoute");
    let stored = Arc::new(Stored { object, source, uid: "u".to_owned(), generation: 3, created_ms: 0 });
    let mut set = ObjectSet::default();
    set.insert(Object::HttpRoute(stored.clone()));
    (set, stored)
}

fn parent(name: &str) -> ConditionScope {
    let object = ObjectKey::new("gateway.networking.k8s.io", "Gateway", NamespacedName::new("shop", name));
    ConditionScope::Parent(ParentRef { object, section: None, port: None, controller: "c".to_owned() })
}

fn documents(
    calendar: &mut Calendar,
    conditions: &[(ConditionScope, &str, ConditionStatus)],
    second: i64,
) -> Value {
    let (objects, stored) = route();
    let conditions: Vec<ConditionIntent> = conditions
        .iter()
        .map(|(scope, kind, status)| ConditionIntent {
            origin: stored.origin().at("spec.rules[0]"),
            scope: scope.clone(),
            kind: (*kind).to_owned(),
            status: *status,
            reason: "Reason".to_owned(),
            message: "what to do".to_owned(),
        })
        .collect();
    let now = Timestamp::from_second(second).expect("a time");
    let (conditions, _) = calendar.date(conditions, now);
    let known = Known {
        objects: &objects,
        conditions: &conditions,
        addresses: &AddressAssignments::new(),
        attached: &[],
    };
    super::documents(&known, Kind::HttpRoute).remove(0)
}

#[test]
fn what_is_wrong_with_a_whole_route_is_told_at_each_of_its_parents() {
    let told = documents(
        &mut Calendar::default(),
        &[
            (parent("a"), "Accepted", ConditionStatus::True),
            (parent("b"), "Accepted", ConditionStatus::True),
            (ConditionScope::Object, "Conflicted", ConditionStatus::True),
        ],
        0,
    );
    let parents = told["status"]["parents"].as_array().expect("parents");
    assert_eq!(parents.len(), 2);
    for parent in parents {
        let kinds: Vec<&Value> =
            parent["conditions"].as_array().into_iter().flatten().map(|c| &c["type"]).collect();
        assert_eq!(kinds, ["Accepted", "Conflicted"]);
        assert_eq!(parent["conditions"][1]["message"], "web.yaml: what to do", "the file is named");
    }
}

#[test]
fn of_two_conditions_of_one_type_the_bad_one_is_shown() {
    for order in [[true, false], [false, true]] {
        let conditions = order.map(|good| (parent("a"), "Accepted", ConditionStatus::from(good)));
        let told = documents(&mut Calendar::default(), &conditions, 0);
        assert_eq!(told["status"]["parents"][0]["conditions"][0]["status"], "False");
    }
}

#[test]
fn the_time_of_a_condition_moves_only_when_its_status_does() {
    let mut calendar = Calendar::default();
    let mut at = |status, second| {
        let told = documents(&mut calendar, &[(parent("a"), "Accepted", status)], second);
        told["status"]["parents"][0]["conditions"][0]["lastTransitionTime"].clone()
    };
    let first = at(ConditionStatus::True, 100);
    assert_eq!(at(ConditionStatus::True, 200), first);
    let changed = at(ConditionStatus::False, 300);
    assert_ne!(changed, first);
    assert_eq!(at(ConditionStatus::False, 400), changed);
}
