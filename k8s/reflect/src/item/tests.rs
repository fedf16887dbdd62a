use mesh_k8s_api::{Kind, Object, Severity};
use serde_json::{Value, json};

use super::Item;

fn ingress(spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "41", "generation": 3,
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "managedFields": [{"manager": "kubectl"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"},
        },
        "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    })
}

fn good() -> Value {
    json!({"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}})
}

#[test]
fn an_object_is_trimmed_and_keeps_the_facts_of_the_cluster() {
    let item = Item::read(Kind::Ingress, ingress(good()), Some("v1"));
    let Some(Object::Ingress(stored)) = &item.object else { panic!("{:?}", item.problems) };
    assert_eq!((stored.uid.as_str(), stored.generation), ("u-1", 3));
    assert_eq!(stored.created_ms, 1_767_323_045_000);
    let metadata = &stored.object.metadata;
    assert!(metadata.managed_fields.is_none() && metadata.resource_version.is_none());
    assert_eq!(metadata.annotations.iter().flatten().count(), 1);
    assert!(stored.object.status.is_none());
    let status = item.status.expect("it was asked for");
    assert_eq!((status.api_version, status.resource_version.as_str()), ("v1", "41"));
    assert_eq!(item.addresses, [std::net::IpAddr::from([192, 0, 2, 1])]);
    assert_eq!(status.status["loadBalancer"]["ingress"][0]["ip"], "192.0.2.1");
}

#[test]
fn an_object_of_a_wrong_shape_is_refused_with_field_and_fix() {
    let item = Item::read(Kind::Ingress, ingress(json!({"rules": "all of them"})), None);
    assert!(item.object.is_none() && item.status.is_none());
    let [problem] = &item.problems[..] else { panic!("{:?}", item.problems) };
    assert_eq!((problem.field.as_str(), problem.severity), ("spec.rules", Severity::Error));
    assert!(problem.message.contains("last good version") && !problem.fix.is_empty());
    assert_eq!(problem.object.to_string(), "Ingress shop/web");
}

#[test]
fn no_problem_of_a_secret_shows_its_values() {
    let secret = json!({
        "metadata": {"name": "keys", "namespace": "shop"},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": "canary-17 is no Base64", "tls.key": 17},
    });
    let item = Item::read(Kind::Secret, secret, None);
    assert!(item.object.is_none());
    assert!(!format!("{item:?}").contains("canary"), "{item:?}");
}

#[test]
fn a_field_of_a_newer_server_is_no_problem_where_the_server_fills_it_in() {
    let service = json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ports": [{"port": 80}], "fromTheFuture": true},
    });
    let item = Item::read(Kind::Service, service, None);
    assert!(item.object.is_some() && item.problems.is_empty(), "{:?}", item.problems);
    let mut spec = good();
    spec["fromTheFuture"] = json!(true);
    let item = Item::read(Kind::Ingress, ingress(spec), None);
    assert!(item.object.is_some());
    assert_eq!(item.problems[0].severity, Severity::Warning);
}
