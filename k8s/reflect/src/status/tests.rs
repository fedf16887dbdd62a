use mesh_k8s_api::Kind;
use serde_json::{Value, json};

use super::merged;

const THEN: &str = "2026-01-01T00:00:00Z";
const NOW: &str = "2026-06-01T00:00:00Z";

fn condition(kind: &str, status: &str, at: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": "R", "message": "m", "observedGeneration": 1,
        "lastTransitionTime": at,
    })
}

fn merge(kind: Kind, current: &Value, desired: &Value) -> Option<Value> {
    merged(kind, current, desired, &["millrace.io/gateway-controller".to_owned()])
}

#[test]
fn a_status_that_says_so_already_is_left_alone_whatever_its_order_and_times() {
    let current = json!({
        "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}],
        "conditions": [condition("Programmed", "True", THEN), condition("Accepted", "True", THEN)],
        "listeners": [
            {"name": "b", "attachedRoutes": 0, "supportedKinds": [], "conditions": []},
            {"name": "a", "attachedRoutes": 1, "supportedKinds": [], "conditions": [
                condition("Conflicted", "False", THEN), condition("Accepted", "True", THEN)]},
        ],
    });
    let desired = json!({
        "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}],
        "conditions": [condition("Accepted", "True", NOW), condition("Programmed", "True", NOW)],
        "listeners": [
            {"name": "a", "attachedRoutes": 1, "supportedKinds": [], "conditions": [
                condition("Accepted", "True", NOW), condition("Conflicted", "False", NOW)]},
            {"name": "b", "attachedRoutes": 0, "supportedKinds": [], "conditions": []},
        ],
    });
    assert_eq!(merge(Kind::Gateway, &current, &desired), None);
}

#[test]
fn the_time_of_a_condition_changes_with_its_status_alone() {
    let current = json!({"conditions": [condition("Accepted", "True", THEN), condition("X", "True", THEN)]});
    let mut desired =
        json!({"conditions": [condition("Accepted", "False", NOW), condition("X", "True", NOW)]});
    desired["conditions"][1]["message"] = json!("another one");
    let merged = merge(Kind::GatewayClass, &current, &desired).expect("two conditions are others");
    assert_eq!(merged["conditions"][0]["lastTransitionTime"], NOW);
    assert_eq!(merged["conditions"][1]["lastTransitionTime"], THEN);
    assert_eq!(merge(Kind::GatewayClass, &merged, &desired), None);
}

#[test]
fn what_others_say_stays_and_what_is_ours_and_holds_no_more_goes() {
    let theirs = condition("example.com/Audited", "True", THEN);
    let current = json!({"conditions": [theirs, condition("Accepted", "True", THEN), condition("Stale", "True", THEN)]});
    let desired = json!({"conditions": [condition("Accepted", "True", NOW)]});
    let merged = merge(Kind::GatewayClass, &current, &desired).expect("one is stale");
    let kinds: Vec<_> =
        merged["conditions"].as_array().expect("a list").iter().map(|c| c["type"].clone()).collect();
    assert_eq!(kinds, ["Accepted", "example.com/Audited"]);

    let parent = |controller: &str| {
        json!({
            "parentRef": {"name": "edge"}, "controllerName": controller,
            "conditions": [condition("Accepted", "True", THEN)],
        })
    };
    let current = json!({"parents": [parent("example.com/other"), parent("millrace.io/gateway-controller")]});
    let merged = merge(Kind::HttpRoute, &current, &json!({"parents": []})).expect("ours goes");
    assert_eq!(merged["parents"], json!([parent("example.com/other")]));
    let merged = merge(Kind::HttpRoute, &json!({"parents": [parent("example.com/other")]}), &current);
    assert_eq!(merged.expect("ours comes")["parents"].as_array().map(Vec::len), Some(3));
}

#[test]
fn an_ingress_gets_its_addresses_and_nothing_that_its_status_has_no_field_for() {
    let desired = json!({
        "loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]},
        "conditions": [condition("Accepted", "True", NOW)],
    });
    let merged = merge(Kind::Ingress, &Value::Null, &desired).expect("an address");
    assert_eq!(merged, json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}));
    assert_eq!(merge(Kind::Ingress, &merged, &desired), None);
    assert_eq!(
        merge(Kind::Ingress, &json!({"loadBalancer": {}}), &json!({"loadBalancer": {"ingress": []}})),
        None
    );
}

#[test]
fn a_message_fits_into_the_api() {
    let mut desired = json!({"conditions": [condition("Accepted", "False", NOW)]});
    desired["conditions"][0]["message"] = json!("é".repeat(40_000));
    let merged = merge(Kind::GatewayClass, &Value::Null, &desired).expect("new");
    let message = merged["conditions"][0]["message"].as_str().expect("text");
    assert!(message.len() <= 32768 && message.len() > 32000);
    assert_eq!(merge(Kind::GatewayClass, &merged, &desired), None);
}
