//! What holds for every input: shown on random selections of the documents of all golden cases, which
//! collide in names, hosts and parents as no single case does.

use std::collections::BTreeSet;
use std::fs;

use mesh_model::ObjectKey;
use mesh_model::l7::{ListenerKey, RouteParent, Translation};
use proptest::prelude::*;

use crate::load::{World, documents};
use crate::{golden, run};

fn all_documents() -> Vec<String> {
    let cases = golden::cases().expect("the golden folder");
    let texts = cases.iter().map(|case| fs::read_to_string(case.join("input.yaml")).expect("an input"));
    texts.flat_map(|text| documents(&text).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Documents, no two of one object, in a random order.
fn selection() -> impl Strategy<Value = Vec<String>> {
    let all = all_documents();
    let most = all.len().min(40);
    proptest::sample::subsequence(all, 1..=most).prop_map(unique).prop_shuffle()
}

fn unique(documents: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    documents.into_iter().filter(|text| seen.insert(identity(text))).collect()
}

fn identity(text: &str) -> (String, String, String) {
    let value: serde_json::Value = serde_saphyr::from_str(text).expect("YAML");
    let part = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = value["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
    (part(&value["kind"]), namespace, part(&value["metadata"]["name"]))
}

fn translated(documents: &[String]) -> Translation {
    let world = World::read(documents.iter().map(String::as_str)).expect("documents of golden cases");
    run(&world)
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_order_of_the_input_changes_nothing(documents in selection()) {
        let mut sorted = documents.clone();
        sorted.sort();
        prop_assert_eq!(translated(&documents), translated(&sorted));
    }

    #[test]
    fn translating_twice_is_equal(documents in selection()) {
        let world = World::read(documents.iter().map(String::as_str)).expect("documents of golden cases");
        prop_assert_eq!(run(&world), run(&world));
    }

    #[test]
    fn everything_said_and_made_is_about_an_object_of_the_input(documents in selection()) {
        let world = World::read(documents.iter().map(String::as_str)).expect("documents of golden cases");
        let known: BTreeSet<ObjectKey> = world.objects.iter().map(|object| object.key()).collect();
        let out = run(&world);
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
    fn removing_a_route_removes_only_its_own_rows(documents in selection()) {
        let mut before = translated(&documents);
        let Some(position) = documents.iter().position(|text| identity(text).0 == "HTTPRoute") else {
            return Ok(());
        };
        let (_, namespace, name) = identity(&documents[position]);
        let name = mesh_model::NamespacedName::new(namespace, name);
        let object = ObjectKey::new("gateway.networking.k8s.io", "HTTPRoute", name);
        let mut fewer = documents;
        fewer.remove(position);
        let mut after = translated(&fewer);
        // How many routes a listener has is about all of them.
        before.attached.clear();
        after.attached.clear();
        prop_assert_eq!(without(before, &object), after);
    }

    #[test]
    fn routes_hang_only_from_listeners_that_are_there(documents in selection()) {
        let out = translated(&documents);
        let listeners: BTreeSet<&ListenerKey> = out.fragments.listeners.iter().map(|row| &row.key).collect();
        for route in &out.fragments.routes {
            prop_assert!(!route.parents.is_empty());
            prop_assert!(!route.rules.is_empty());
            for parent in &route.parents {
                if let RouteParent::Listener(key) = parent {
                    prop_assert!(listeners.contains(key), "{key}");
                }
            }
        }
    }
}
