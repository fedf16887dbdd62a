//! What the chart grants is what the roles need: no rule more, none less. (What they need is held in `rules.rs`; what the
//! chart renders, in charts/golden by `cargo xtask chart`.)

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mesh_k8s_reflect::{Reach, Role, rules};
use serde_json::Value;

/// Group, resource, verb.
type Right = (String, String, String);

/// Rights by the kind of role and its name, as the chart renders them with no more values than it needs.
fn rendered() -> BTreeMap<(String, String), BTreeSet<Right>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/golden/default.yaml");
    let text = std::fs::read_to_string(file).expect("`cargo xtask chart --bless` writes it");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    let mut roles: BTreeMap<(String, String), BTreeSet<Right>> = BTreeMap::new();
    for document in &documents {
        let word = |value: &Value| value.as_str().expect("a text").to_owned();
        let Some(kind @ ("Role" | "ClusterRole")) = document["kind"].as_str() else { continue };
        let name = word(&document["metadata"]["name"]);
        let rights = roles.entry((kind.to_owned(), name)).or_default();
        for rule in document["rules"].as_array().expect("rules") {
            let list = |field: &str| rule[field].as_array().expect("a list").iter().map(word);
            for group in list("apiGroups") {
                for resource in list("resources") {
                    rights.extend(list("verbs").map(|verb| (group.clone(), resource.clone(), verb)));
                }
            }
        }
    }
    roles
}

fn needed(role: Role, reach: Reach) -> BTreeSet<Right> {
    let rules = rules(role).into_iter().filter(|rule| rule.reach == reach);
    let rights = rules.flat_map(|rule| {
        rule.verbs
            .iter()
            .map(move |verb| (rule.group.to_owned(), rule.resource.to_owned(), (*verb).to_owned()))
    });
    rights.collect()
}

#[test]
fn the_chart_grants_each_role_what_it_needs_and_nothing_else() {
    let rendered = rendered();
    let granted = |kind: &str, name: &str| rendered.get(&(kind.to_owned(), name.to_owned())).cloned();
    for (role, name) in [(Role::Agent, "millrace-agent"), (Role::Operator, "millrace-operator")] {
        for (kind, reach) in [("ClusterRole", Reach::Cluster), ("Role", Reach::Own)] {
            let granted = granted(kind, name).unwrap_or_default();
            let needed = needed(role, reach);
            let more: Vec<&Right> = granted.difference(&needed).collect();
            let missing: Vec<&Right> = needed.difference(&granted).collect();
            assert!(
                more.is_empty() && missing.is_empty(),
                "{kind} {name}: unused {more:?}, missing {missing:?}"
            );
        }
        assert_eq!(granted("Role", "millrace-secrets"), Some(needed(role, Reach::Secrets)));
    }
    let known = ["millrace-agent", "millrace-operator", "millrace-secrets", "millrace-cleanup"];
    for (_, name) in rendered.keys() {
        assert!(known.contains(&name.as_str()), "nobody knows what {name} is for");
    }
}
