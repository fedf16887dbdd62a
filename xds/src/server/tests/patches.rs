//! Large route tables, told as what differs from the version before to who asks for that.

use std::collections::BTreeMap;

use mesh_xds_proto::{Patch, TAKES_PATCHES, decode, route};

use super::super::cache::Resource;
use super::*;

/// A client that takes patches, and the bodies that it has.
struct Patched {
    peer: Peer,
    held: BTreeMap<String, (String, Any)>,
}

fn node(features: &[&str]) -> Option<core::Node> {
    let client_features = features.iter().map(|feature| (*feature).to_owned()).collect();
    Some(core::Node { client_features, ..Default::default() })
}

impl Patched {
    fn new(cache: &ResourceCache) -> Self {
        Self::holding(cache, &[])
    }

    /// A client that has these from an earlier stream.
    fn holding(cache: &ResourceCache, held: &[(String, String, Any)]) -> Self {
        let mut peer = Peer::new(cache);
        peer.request(DeltaDiscoveryRequest {
            node: node(&["another", TAKES_PATCHES]),
            type_url: RDS.to_owned(),
            resource_names_subscribe: vec!["*".to_owned()],
            initial_resource_versions: held
                .iter()
                .map(|(name, version, _)| (name.clone(), version.clone()))
                .collect(),
            ..Default::default()
        });
        let held = held.iter().cloned().map(|(name, version, body)| (name, (version, body)));
        Self { peer, held: held.collect() }
    }

    /// The next response as `+whole ~patched`; what comes is applied, as far as it is not in `refused`. `None`: none.
    fn hear(&mut self, refused: &[&str]) -> Option<String> {
        self.peer.hear_any()?;
        let response = self.peer.last.clone().unwrap();
        let mut text = Vec::new();
        for resource in response.resources {
            let body = resource.resource.unwrap();
            let (sign, body) = match body.type_url.as_str() {
                Patch::TYPE_URL => {
                    let patch: Patch = decode(&body).unwrap();
                    let (version, base) = &self.held[&resource.name];
                    assert_eq!(patch.base, *version, "a patch of what the client has not");
                    ('~', patch.apply(base).unwrap())
                }
                _ => ('+', body),
            };
            text.push(format!("{sign}{}", resource.name));
            if !refused.contains(&resource.name.as_str()) {
                self.held.insert(resource.name, (resource.version, body));
            }
        }
        Some(text.join(" "))
    }

    /// All responses, each taken.
    fn hear_all(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        while let Some(text) = self.hear(&[]) {
            heard.extend(Some(text).filter(|text| !text.is_empty()));
            self.peer.answer(None);
        }
        heard
    }

    fn refuse(&mut self, name: &str) {
        self.peer.answer(Some(rejection::status(&[(name.to_owned(), "no".to_owned())])));
    }

    fn has_what_is_served(&self) -> bool {
        let served = self.peer.cache.snapshot();
        let served = served
            .iter()
            .map(|(_, name, resource)| (name.to_owned(), (resource.version.clone(), resource.body.clone())));
        self.held == served.collect()
    }
}

/// A large table that has `text` in it.
fn large(text: &str) -> Any {
    let side = || route::Route { name: "x".repeat(Resource::LEAST_SPARED), ..Default::default() };
    let middle = route::Route { name: text.to_owned(), ..Default::default() };
    let host = route::VirtualHost { routes: vec![side(), middle, side()], ..Default::default() };
    mesh_xds_proto::any(&route::RouteConfiguration { virtual_hosts: vec![host], ..Default::default() })
}

fn publish(cache: &ResourceCache, name: &str, body: Any) {
    let mut set = ResourceSet::default();
    set.insert(name, body);
    cache.publish(set);
}

#[test]
fn a_large_table_is_sent_whole_and_then_as_what_differs() {
    let cache = ResourceCache::default();
    publish(&cache, "table", large("1"));
    let mut client = Patched::new(&cache);
    assert_eq!(client.hear_all(), ["+table"]);
    for text in ["2", "", "and much longer", "2"] {
        publish(&cache, "table", large(text));
        assert_eq!(client.hear_all(), ["~table"]);
        assert!(client.has_what_is_served());
        let sent = client.peer.last.as_ref().unwrap().encoded_len();
        assert!(sent < 500, "{sent} bytes");
    }
}

#[test]
fn who_does_not_say_that_it_takes_patches_gets_none() {
    let cache = ResourceCache::default();
    publish(&cache, "table", large("1"));
    let mut peer = Peer::new(&cache);
    peer.request(DeltaDiscoveryRequest {
        node: node(&["another"]),
        type_url: RDS.to_owned(),
        resource_names_subscribe: vec!["*".to_owned()],
        ..Default::default()
    });
    for text in ["2", "3"] {
        publish(&cache, "table", large(text));
        assert_eq!(peer.hear_all(), ["RDS +table"]);
        assert_eq!(peer.last.as_ref().unwrap().resources[0].resource.as_ref().unwrap().type_url, RDS);
    }
}

#[test]
fn small_tables_and_other_types_are_sent_whole() {
    let cache = ResourceCache::default();
    let mut client = Patched::new(&cache);
    client.peer.subscribe(CDS, &["*"]);
    for text in ["1", "2"] {
        let mut set = set(&[(RDS, "small", text)]);
        set.insert("cluster", Any { type_url: CDS.to_owned(), ..large(text) });
        cache.publish(set);
        assert_eq!(client.hear_all(), ["+cluster", "+small"]);
    }
}

#[test]
fn who_is_more_than_one_version_behind_gets_the_whole() {
    let cache = ResourceCache::default();
    publish(&cache, "table", large("1"));
    let mut client = Patched::new(&cache);
    assert_eq!(client.hear_all(), ["+table"]);
    publish(&cache, "table", large("2"));
    assert_eq!(client.hear(&[]).as_deref(), Some("~table"));
    publish(&cache, "table", large("3"));
    publish(&cache, "table", large("4"));
    client.peer.answer(None);
    assert_eq!(client.hear_all(), ["+table"]);
    assert!(client.has_what_is_served());
}

#[test]
fn a_refused_patch_is_followed_by_the_whole_and_that_only_once() {
    let cache = ResourceCache::default();
    publish(&cache, "table", large("1"));
    let mut client = Patched::new(&cache);
    assert_eq!(client.hear_all(), ["+table"]);
    publish(&cache, "table", large("2"));
    assert_eq!(client.hear(&["table"]).as_deref(), Some("~table"));
    client.refuse("table");
    assert_eq!(client.hear(&["table"]).as_deref(), Some("+table"));
    client.refuse("table");
    assert_eq!(client.hear(&[]), None);
    assert_eq!(client.peer.rejected(), ["RDS table: no"]);
    // The version before is not what the client has.
    publish(&cache, "table", large("3"));
    assert_eq!(client.hear_all(), ["+table"]);
    assert_eq!(client.peer.rejected(), [""; 0]);
    publish(&cache, "table", large("4"));
    assert_eq!(client.hear_all(), ["~table"]);
    assert!(client.has_what_is_served());
}

#[test]
fn who_comes_back_with_the_version_before_gets_a_patch_and_with_another_the_whole() {
    let cache = ResourceCache::default();
    let mut versions = Vec::new();
    for text in ["1", "2", "3"] {
        publish(&cache, "table", large(text));
        let resource = cache.snapshot().resources(RDS).unwrap()["table"].clone();
        versions.push(("table".to_owned(), resource.version.clone(), resource.body.clone()));
    }
    for (version, expected) in [(0, "+table"), (1, "~table")] {
        let mut client = Patched::holding(&cache, &versions[version..=version]);
        assert_eq!(client.hear_all(), [expected]);
        assert!(client.has_what_is_served());
    }
}

#[test]
fn a_table_that_was_away_comes_back_whole() {
    let cache = ResourceCache::default();
    publish(&cache, "table", large("1"));
    let mut client = Patched::new(&cache);
    client.hear_all();
    publish(&cache, "other", body(RDS, ""));
    client.hear_all();
    publish(&cache, "table", large("2"));
    assert_eq!(client.hear(&[]).as_deref(), Some("+table"));
}

proptest! {
    /// Whatever is published, taken and refused: each patch is of what the client has, and it ends with what is served.
    #[test]
    fn a_client_that_takes_patches_ends_with_what_is_served(
        steps in collection::vec(
            (collection::btree_map(sample::select(vec!["a", "b"]), 0_u8..4, 0..3), collection::vec(0_u8..4, 0..4)),
            1..12,
        ),
    ) {
        let cache = ResourceCache::default();
        let mut client = Patched::new(&cache);
        for (tables, answers) in steps {
            let mut set = ResourceSet::default();
            for (name, content) in &tables {
                set.insert(*name, large(&content.to_string()));
            }
            cache.publish(set);
            for answer in answers {
                let refused = if answer == 0 { &["a"][..] } else { &[] };
                if client.hear(refused).is_none() {
                    continue;
                }
                for name in &client.peer.last.as_ref().unwrap().removed_resources {
                    client.held.remove(name);
                }
                let has_a = client.peer.last.as_ref().unwrap().resources.iter().any(|resource| resource.name == "a");
                if answer == 0 && has_a { client.refuse("a") } else { client.peer.answer(None) }
            }
        }
        // A version that was refused for good is not sent again; a new one is.
        let mut set = ResourceSet::default();
        for name in ["a", "b"] {
            set.insert(name, large("last"));
        }
        if client.peer.last.is_some() {
            client.peer.answer(None);
        }
        cache.publish(set);
        client.hear_all();
        assert!(client.has_what_is_served());
    }
}
