//! Objects as JSON in, rows out.

mod backends;
mod certificates;
mod nodes;
mod pools;
mod services;

use mesh_k8s_api::core::{Service, WireSecret};
use mesh_k8s_api::discovery::EndpointSlice;
use mesh_k8s_api::{Facts, Kind, LbPool, Object, ObjectSet, Secret, Source, Stored, normalise};
use serde_json::{Value, json};

use crate::{Ingested, ingest};

/// The set of these objects, told apart by their kind; metadata gets namespace `shop`.
fn set(objects: impl IntoIterator<Item = Value>) -> ObjectSet {
    objects.into_iter().map(object).collect()
}

fn object(mut value: Value) -> Object {
    value["metadata"]["namespace"] = json!("shop");
    match value["kind"].as_str().unwrap() {
        "Service" => {
            value["apiVersion"] = json!("v1");
            stored(serde_json::from_value::<Service>(value).unwrap()).into()
        }
        "EndpointSlice" => {
            value["apiVersion"] = json!("discovery.k8s.io/v1");
            stored(serde_json::from_value::<EndpointSlice>(value).unwrap()).into()
        }
        "Secret" => {
            value["apiVersion"] = json!("v1");
            stored(Secret::from(serde_json::from_value::<WireSecret>(value).unwrap())).into()
        }
        "Node" => decoded(Kind::Node, value),
        "CiliumNode" => decoded(Kind::CiliumNode, value),
        _ => stored(serde_json::from_value::<LbPool>(value).unwrap()).into(),
    }
}

/// As a reader does it.
fn decoded(kind: Kind, mut value: Value) -> Object {
    normalise(kind, &mut value);
    let facts = Facts { source: Source::Api, uid: "u".into(), generation: 1 };
    let mut findings = Vec::new();
    Object::decode(kind, value, |_| facts, &mut findings).unwrap_or_else(|| panic!("{findings:?}"))
}

fn stored<T>(object: T) -> Stored<T> {
    Stored { object, source: Source::Api, uid: "u".into(), generation: 1, created_ms: i64::MAX }
}

fn service(spec: Value) -> Value {
    json!({"kind": "Service", "metadata": {"name": "web"}, "spec": spec})
}

fn slice(name: &str, rest: Value) -> Value {
    let labels = json!({"kubernetes.io/service-name": "web"});
    let mut slice = json!({"kind": "EndpointSlice", "metadata": {"name": name, "labels": labels}});
    let fields = rest.as_object().unwrap().clone();
    slice.as_object_mut().unwrap().extend(fields);
    slice
}

/// Field and reason of each note.
fn notes(ingested: &Ingested) -> Vec<(&str, &str)> {
    ingested.notes.iter().map(|note| (note.origin.field.as_str(), note.reason.as_str())).collect()
}

#[test]
fn ingesting_twice_gives_the_same() {
    let objects = set([service(json!({"ports": [{"port": 80}]}))]);
    assert_eq!(ingest(&objects), ingest(&objects));
    assert_eq!(ingest(&ObjectSet::default()), Ingested::default());
}
