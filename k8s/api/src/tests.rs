use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_model::NamespacedName;

use crate::core::{Service, WireSecret};
use crate::meta::{ByteString, ObjectMeta};
use crate::{ChangeKind, Kind, LbPool, Object, ObjectSet, Secret, Source, Stored};

fn stored<T>(object: T) -> Stored<T> {
    Stored { object, source: Source::Api, uid: "u".into(), generation: 1, created_ms: i64::MAX }
}

fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.into()), namespace: Some("shop".into()), ..ObjectMeta::default() }
}

fn service(name: &str) -> Object {
    stored(Service { metadata: metadata(name), ..Service::default() }).into()
}

#[test]
fn debug_of_a_set_never_shows_secret_bytes() {
    let wire = WireSecret {
        metadata: metadata("keys"),
        data: Some(BTreeMap::from([("tls.key".to_owned(), ByteString(b"canary-91".to_vec()))])),
        string_data: Some(BTreeMap::from([("more".to_owned(), "canary-92".to_owned())])),
        ..WireSecret::default()
    };
    let secret = Secret::from(wire);
    assert_eq!(secret.data["more"].expose(), b"canary-92");
    assert!(!format!("{secret:?}").contains("canary"));
    let set: ObjectSet = [stored(secret).into()].into_iter().collect();
    let text = format!("{set:#?}");
    assert!(text.contains("keys"));
    assert!(!text.contains("canary") && !text.contains("99, 97, 110"), "{text}");
}

#[test]
fn a_changed_set_shares_what_did_not_change() {
    let before: ObjectSet = [service("a"), service("b")].into_iter().collect();
    let mut after = before.clone();
    after.insert(service("b"));
    let [a, b] = ["a", "b"].map(|name| NamespacedName::new("shop", name));
    assert!(Arc::ptr_eq(&before.services[&a], &after.services[&a]));
    assert!(!Arc::ptr_eq(&before.services[&b], &after.services[&b]));
    after.remove(Kind::Service, &a);
    assert_eq!((before.len(), after.len()), (2, 1));
}

#[test]
fn an_object_names_itself_by_kind_and_name() {
    let object = service("web");
    assert_eq!(object.key().to_string(), "Service shop/web");
    assert_eq!(object.origin().source, "api");
    assert_eq!(Kind::find("gateway.networking.k8s.io", "HTTPRoute"), Some(Kind::HttpRoute));
    assert_eq!(Kind::find("", "HTTPRoute"), None);
    assert_eq!(Kind::LbPool.api_version(), "cilium.io/v2");
}

#[test]
fn a_pool_is_read_in_both_spellings() {
    for blocks in ["blocks", "cidrs"] {
        let text =
            format!(r#"{{"metadata":{{"name":"p"}},"spec":{{"{blocks}":[{{"cidr":"192.0.2.0/28"}}]}}}}"#);
        let pool: LbPool = serde_json::from_str(&text).unwrap();
        assert_eq!(pool.spec.blocks[0].cidr.as_deref(), Some("192.0.2.0/28"));
    }
}

#[test]
fn what_differs_between_two_sets_is_told_and_nothing_else() {
    let before: ObjectSet = [service("kept"), service("changed"), service("gone")].into_iter().collect();
    let mut after = before.clone();
    let mut changed = Service { metadata: metadata("changed"), ..Service::default() };
    changed.metadata.labels = Some(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    after.insert(stored(changed).into());
    after.insert(service("new"));
    after.remove(Kind::Service, &NamespacedName::new("shop", "gone"));
    let told: Vec<(String, ChangeKind)> = after
        .changes_since(&before)
        .into_iter()
        .map(|change| (change.object.name.name, change.kind))
        .collect();
    let expected =
        [("changed", ChangeKind::Changed), ("gone", ChangeKind::Removed), ("new", ChangeKind::Added)];
    assert_eq!(told, expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert!(after.changes_since(&after.clone()).is_empty());
}
