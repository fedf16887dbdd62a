//! What holds for every input: shown on random selections of the documents of all golden cases, which
//! collide in names, hosts and paths as no single case does.

use std::collections::BTreeSet;
use std::fs;

use mesh_ingress::Config;
use mesh_model::ObjectKey;
use mesh_model::l7::{ListenerKey, ListenerProtocol, PathMatch, RouteParent, Translation};
use proptest::prelude::*;
use serde_json::Value;

use crate::load::{World, documents};
use crate::{golden, mutate, run};

fn all_documents() -> Vec<Value> {
    let cases = golden::cases().expect("the golden folder");
    let texts = cases.iter().map(|case| fs::read_to_string(case.join("input.yaml")).expect("an input"));
    texts.flat_map(|text| documents(&text).expect("YAML")).collect()
}

/// Documents, no two of one object, in a random order.
fn selection() -> impl Strategy<Value = Vec<Value>> {
    let all = all_documents();
    let most = all.len().min(40);
    proptest::sample::subsequence(all, 1..=most).prop_map(unique).prop_shuffle()
}

fn unique(documents: Vec<Value>) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    documents.into_iter().filter(|document| seen.insert(identity(document))).collect()
}

/// Kind, namespace and name.
fn identity(document: &Value) -> (String, String, String) {
    let text = |value: &Value, default: &str| value.as_str().unwrap_or(default).to_owned();
    let metadata = &document["metadata"];
    (text(&document["kind"], ""), text(&metadata["namespace"], "default"), text(&metadata["name"], ""))
}

fn translated(documents: &[Value]) -> Translation {
    let world = World::read(documents.to_vec()).expect("documents of golden cases");
    run(&world, &Config::default())
}

/// Rows and what is said, without those of `object`.
fn without(mut translation: Translation, object: &ObjectKey) -> Translation {
    translation.fragments.listeners.retain(|row| row.origin.object != *object);
    translation.fragments.routes.retain(|row| row.origin.object != *object);
    translation.fragments.claims.retain(|row| row.origin.object != *object);
    translation.conditions.retain(|row| row.origin.object != *object);
    translation.notes.retain(|row| row.origin.object != *object);
    translation
}

/// Routes hang only from listeners that are there, and every rule and match means something.
fn check_routes(out: &Translation) -> Result<(), TestCaseError> {
    let listeners: BTreeSet<&ListenerKey> = out.fragments.listeners.iter().map(|row| &row.key).collect();
    prop_assert_eq!(listeners.len(), out.fragments.listeners.len());
    for listener in &out.fragments.listeners {
        prop_assert_eq!(listener.protocol == ListenerProtocol::Https, listener.tls.is_some());
        prop_assert!(listener.tls.as_ref().is_none_or(|tls| !tls.certificates.is_empty()));
        prop_assert!(listener.port != 0);
    }
    for route in &out.fragments.routes {
        prop_assert!(!route.parents.is_empty());
        prop_assert!(route.parents.is_sorted());
        prop_assert!(!route.rules.is_empty());
        for parent in &route.parents {
            if let RouteParent::Listener(key) = parent {
                prop_assert!(listeners.contains(key), "{key}");
            }
        }
        for rule in &route.rules {
            prop_assert!(!rule.matches.is_empty());
            for path in rule.matches.iter().map(|entry| &entry.path) {
                if let PathMatch::Exact(path) | PathMatch::Prefix(path) = path {
                    prop_assert!(path.starts_with('/'));
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_order_of_the_input_changes_nothing(documents in selection()) {
        let mut sorted = documents.clone();
        sorted.sort_by_key(identity);
        prop_assert_eq!(translated(&documents), translated(&sorted));
    }

    #[test]
    fn translating_twice_is_equal(documents in selection()) {
        let world = World::read(documents).expect("documents of golden cases");
        prop_assert_eq!(run(&world, &Config::default()), run(&world, &Config::default()));
    }

    #[test]
    fn everything_said_and_made_is_about_an_object_of_the_input(documents in selection()) {
        let world = World::read(documents).expect("documents of golden cases");
        let known: BTreeSet<ObjectKey> = world.objects.iter().map(|object| object.key()).collect();
        let out = run(&world, &Config::default());
        for origin in out.conditions.iter().map(|row| &row.origin)
            .chain(out.notes.iter().map(|row| &row.origin))
            .chain(out.fragments.listeners.iter().map(|row| &row.origin))
            .chain(out.fragments.routes.iter().map(|row| &row.origin))
            .chain(out.fragments.claims.iter().map(|row| &row.origin))
        {
            prop_assert!(known.contains(&origin.object), "{origin}");
        }
    }

    #[test]
    fn removing_an_ingress_removes_only_its_own_rows(documents in selection()) {
        let before = translated(&documents);
        let Some(position) = documents.iter().position(|document| identity(document).0 == "Ingress") else {
            return Ok(());
        };
        let (_, namespace, name) = identity(&documents[position]);
        let object = ObjectKey::new(
            "networking.k8s.io", "Ingress", mesh_model::NamespacedName::new(namespace, name));
        let mut fewer = documents;
        fewer.remove(position);
        prop_assert_eq!(without(before, &object), translated(&fewer));
    }

    #[test]
    fn routes_hang_only_from_listeners_that_are_there(documents in selection()) {
        check_routes(&translated(&documents))?;
    }

    #[test]
    fn objects_with_parts_replaced_are_translated_all_the_same(
        documents in selection(),
        mutations in mutate::mutations(),
    ) {
        let world = World::read_what_is_typed(mutate::apply(documents, &mutations));
        let known: BTreeSet<ObjectKey> = world.objects.iter().map(|object| object.key()).collect();
        let out = run(&world, &Config::default());
        prop_assert_eq!(&out, &run(&world, &Config::default()));
        check_routes(&out)?;
        for origin in out.conditions.iter().map(|row| &row.origin).chain(out.notes.iter().map(|row| &row.origin)) {
            prop_assert!(known.contains(&origin.object), "{origin}");
        }
    }
}
