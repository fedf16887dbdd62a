use mesh_k8s_api::{Kind, Object};
use mesh_model::NamespacedName;
use serde_json::Value;

use super::describe;
use crate::fixture::quickstart;
use crate::objects;
use crate::services::{ServiceIds, rows};
use crate::state::State;

fn object(state: &State, kind: Kind, name: &str) -> Object {
    state.objects.get(kind, &NamespacedName::new("shop", name)).expect("it is in the quickstart")
}

fn described(kind: Kind, name: &str) -> Value {
    let state = quickstart();
    let object = object(&state, kind, name);
    let frontends = rows(&state, &ServiceIds::new());
    describe(&state, &object, objects::document(&object), &frontends)
}

fn texts(list: &Value, field: &str) -> Vec<String> {
    let items = list.as_array().expect("a list").iter();
    items.map(|item| item[field].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn an_ingress_became_listeners_routes_clusters_and_frontends() {
    let ingress = described(Kind::Ingress, "shop");
    assert!(ingress["source"].as_str().is_some_and(|source| source.contains("20-ingress.yaml document 2")));
    assert_eq!(ingress["addresses"][0], "192.0.2.1");
    assert!(texts(&ingress["listeners"], "name").contains(&"192.0.2.1:80".to_owned()));
    assert_eq!(ingress["listeners"][0]["state"], "pending", "no proxy has taken it");
    let hello = ingress["routes"].as_array().expect("routes").iter();
    let hello: Vec<&Value> = hello.filter(|route| route["host"] == "hello.example.com").collect();
    assert_eq!(hello[0]["match"], "/*");
    assert_eq!(hello[0]["action"], "forward to shop/web-v1:80");
    assert!(hello[0]["from"].as_str().is_some_and(|from| from.starts_with("spec.rules[1]")));
    let clusters = texts(&ingress["clusters"], "name");
    assert!(clusters.contains(&"shop:web-v1:80".to_owned()), "{clusters:?}");
    let endpoints = texts(&ingress["clusters"][0]["endpoints"], "address");
    assert!(endpoints.iter().any(|endpoint| endpoint.starts_with("10.244.1.")), "{endpoints:?}");
    let frontends = ingress["frontends"].as_array().expect("frontends");
    assert!(frontends.iter().any(|row| row["frontend"]["address"] == "192.0.2.1"));
}

#[test]
fn a_route_tells_its_weights_rewrites_and_redirects() {
    let route = described(Kind::HttpRoute, "edge");
    let actions = texts(&route["routes"], "action");
    for expected in [
        "forward to shop/web-v1:80 (90), shop/web-v2:80 (10)",
        "redirect 301: host gw.example.com path prefix becomes /new",
        "forward to shop/web-v2:80, path prefix becomes /",
    ] {
        assert!(actions.iter().any(|action| action == expected), "{expected} is not in {actions:#?}");
    }
}

#[test]
fn a_service_tells_who_sends_to_it_and_what_takes_its_connections() {
    let web = described(Kind::Service, "web-v1");
    let users: Vec<&str> =
        web["usedBy"].as_array().expect("users").iter().filter_map(Value::as_str).collect();
    assert_eq!(users, ["HTTPRoute shop/edge", "Ingress shop/shop"]);
    let catalog = described(Kind::Service, "catalog");
    let users: Vec<&str> =
        catalog["usedBy"].as_array().expect("users").iter().filter_map(Value::as_str).collect();
    assert_eq!(users, ["HTTPRoute shop/catalog"]);
    assert_eq!(catalog["listeners"][0]["owner"], "service/shop/catalog/80");
    assert_eq!(catalog["clusters"][0]["name"], "shop:catalog:80");
    let frontends = catalog["frontends"].as_array().expect("frontends");
    assert!(frontends.iter().all(|row| row["service"] == "shop/catalog") && !frontends.is_empty());
}

#[test]
fn a_gateway_tells_which_routes_hang_on_it() {
    let gateway = described(Kind::Gateway, "edge");
    let users: Vec<&str> =
        gateway["usedBy"].as_array().expect("users").iter().filter_map(Value::as_str).collect();
    assert_eq!(users, ["HTTPRoute shop/edge"]);
    assert!(
        texts(&gateway["listeners"], "owner").iter().any(|owner| owner.starts_with("gateway/shop/edge/"))
    );
}

#[test]
fn an_endpoint_slice_names_its_service() {
    let state = quickstart();
    let slice = state.objects.endpoint_slices.values().next().expect("a slice").clone();
    let object = Object::EndpointSlice(slice);
    let shown = describe(&state, &object, objects::document(&object), &[]);
    assert!(shown["usedBy"][0].as_str().is_some_and(|user| user.starts_with("Service shop/")));
}

#[test]
fn the_fields_of_a_described_object_are_named_as_documented() {
    let shown = described(Kind::Service, "plain");
    let mut fields: Vec<&String> = shown.as_object().expect("an object").keys().collect();
    fields.sort();
    assert_eq!(
        fields,
        [
            "addresses",
            "clusters",
            "conditions",
            "frontends",
            "generation",
            "kind",
            "listeners",
            "name",
            "namespace",
            "object",
            "problems",
            "routes",
            "source",
            "uid",
            "usedBy",
        ]
    );
}
