//! The same session in the state-of-the-world encoding.

use std::collections::{BTreeMap, BTreeSet};

use mesh_xds_proto::{
    Any, Message, any, cluster,
    core::ControlPlane,
    discovery::{DiscoveryRequest, DiscoveryResponse},
    rpc, type_urls,
};
use proptest::{collection, proptest, sample};

use super::{CDS, EDS, LDS, RDS, ResourceSet, SDS, body, set, short};
use crate::server::{
    cache::ResourceCache,
    encoding::{Encoding, Received, StateOfTheWorld},
    session::{Protocol, Session, SessionLimits},
};

/// A client that does what the test says, and does what the protocol says with what it hears: listeners
/// and clusters that are not in a response are gone, everything else stays.
struct Peer {
    cache: ResourceCache,
    session: Session,
    names: BTreeMap<&'static str, Vec<String>>,
    versions: BTreeMap<&'static str, String>,
    last: Option<DiscoveryResponse>,
}

impl Peer {
    fn new(cache: &ResourceCache) -> Self {
        let limits = SessionLimits { response_bytes: 300, names_per_type: 10 };
        let session = Session::new(Protocol::StateOfTheWorld, limits);
        Self { cache: cache.clone(), session, names: BTreeMap::new(), versions: BTreeMap::new(), last: None }
    }

    /// Clusters and listeners by wildcard, the others by name.
    fn like_envoy(cache: &ResourceCache) -> Self {
        let mut peer = Self::new(cache);
        peer.wants(CDS, &[]);
        peer.wants(LDS, &[]);
        for type_url in [EDS, SDS, RDS] {
            peer.wants(type_url, &["a", "b", "c"]);
        }
        peer
    }

    /// All names that are wanted from now on, with the last nonce, as any request has it.
    fn wants(&mut self, type_url: &'static str, names: &[&str]) {
        self.names.insert(type_url, names.iter().map(|name| (*name).to_owned()).collect());
        let nonce =
            self.last.as_ref().filter(|last| last.type_url == type_url).map(|last| last.nonce.clone());
        // Not the nonce of an unanswered response: that would be an answer.
        let nonce = nonce.filter(|_| !self.is_in_flight());
        self.request(type_url, nonce.unwrap_or_default(), None).unwrap();
    }

    fn is_in_flight(&self) -> bool {
        self.session.subscriptions().any(|(_, subscription)| subscription.is_in_flight())
    }

    fn request(
        &mut self,
        type_url: &str,
        response_nonce: String,
        error_detail: Option<rpc::Status>,
    ) -> Result<(), String> {
        let Received { type_url, request, .. } = StateOfTheWorld::receive(DiscoveryRequest {
            version_info: self.versions.get(type_url).cloned().unwrap_or_default(),
            type_url: type_url.to_owned(),
            resource_names: self.names.get(type_url).cloned().unwrap_or_default(),
            response_nonce,
            error_detail,
            ..Default::default()
        });
        self.session.receive(&type_url, request).map_err(|error| error.to_string())
    }

    /// The next response, as `CDS a=1 b=2`. The resources of these tests have no name inside, so they
    /// are told by the session; their content is what the wire has.
    fn hear(&mut self) -> Option<String> {
        let response = self.session.next(&self.cache.snapshot())?;
        let names: Vec<String> = response.resources.iter().map(|sent| sent.name.clone()).collect();
        let response = StateOfTheWorld::respond(response);
        let mut text = short(&response.type_url).to_owned();
        for (name, body) in names.iter().zip(&response.resources) {
            assert_eq!(body.type_url, response.type_url);
            let content = content_of(body);
            text.push_str(&format!(" {name}={content}"));
        }
        self.last = Some(response);
        Some(text)
    }

    fn answer(&mut self, error: Option<&str>) {
        let last = self.last.clone().expect("something to answer");
        let (type_url, _) = self.names.get_key_value(last.type_url.as_str()).expect("asked for");
        let error =
            error.map(|message| rpc::Status { code: 3, message: message.into(), details: Vec::new() });
        if error.is_none() {
            self.versions.insert(type_url, last.version_info);
        }
        let type_url = *type_url;
        self.request(type_url, last.nonce, error).unwrap();
    }

    fn hear_all(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        while let Some(text) = self.hear() {
            heard.push(text);
            self.answer(None);
        }
        heard
    }

    fn rejected(&self) -> Vec<String> {
        let subscriptions = self.session.subscriptions();
        subscriptions.flat_map(|(_, subscription)| subscription.rejected.keys().cloned()).collect()
    }

    fn acked(&self, type_url: &str) -> Vec<&str> {
        let (_, subscription) = self.session.subscriptions().find(|(known, _)| *known == type_url).unwrap();
        subscription.acked.keys().map(String::as_str).collect()
    }

    fn is_settled(&self) -> bool {
        self.session.is_settled(&self.cache.snapshot())
    }
}

/// Reads what [`body`] wrote, and nothing from anything else.
fn content_of(body: &Any) -> String {
    ControlPlane::decode(body.value.as_slice()).unwrap_or_default().identifier
}

#[test]
fn clusters_and_listeners_come_whole_and_the_others_by_difference() {
    let cache = ResourceCache::default();
    cache.publish(set(&[
        (CDS, "a", "1"),
        (CDS, "b", "1"),
        (EDS, "a", "1"),
        (EDS, "b", "1"),
        (LDS, "a", "1"),
    ]));
    let mut peer = Peer::like_envoy(&cache);
    assert_eq!(peer.hear_all(), ["CDS a=1 b=1", "EDS a=1 b=1", "LDS a=1"]);
    assert!(peer.is_settled());

    cache.publish(set(&[
        (CDS, "a", "1"),
        (CDS, "b", "2"),
        (EDS, "a", "2"),
        (EDS, "b", "1"),
        (LDS, "a", "1"),
    ]));
    assert_eq!(peer.hear_all(), ["CDS a=1 b=2", "EDS a=2"]);
    assert!(peer.is_settled());
}

#[test]
fn what_is_gone_stays_until_everything_that_replaces_it_is_in_use() {
    let cache = ResourceCache::default();
    cache.publish(set(&[
        (CDS, "a", "1"),
        (EDS, "a", "1"),
        (LDS, "a", "1"),
        (SDS, "a", "1"),
        (RDS, "a", "1"),
    ]));
    let mut peer = Peer::like_envoy(&cache);
    assert_eq!(peer.hear_all(), ["CDS a=1", "EDS a=1", "LDS a=1", "SDS a=1", "RDS a=1"]);

    cache.publish(set(&[
        (CDS, "b", "1"),
        (EDS, "b", "1"),
        (LDS, "b", "1"),
        (SDS, "b", "1"),
        (RDS, "a", "2"),
    ]));
    assert_eq!(
        peer.hear_all(),
        ["CDS a=1 b=1", "EDS b=1", "LDS a=1 b=1", "SDS b=1", "RDS a=2", "LDS b=1", "CDS b=1"]
    );
    assert!(peer.is_settled());
    assert_eq!(peer.acked(CDS), ["b"]);
    assert_eq!(peer.acked(EDS), ["b"], "what cannot be told as gone is forgotten");
}

#[test]
fn a_changed_cluster_brings_its_endpoints_again() {
    let cache = ResourceCache::default();
    let publish = |seconds: i64, service_name: &str| {
        let mut resources = set(&[(EDS, "a", "1"), (EDS, "b", "1")]);
        resources.insert(
            "web",
            any(&cluster::Cluster {
                connect_timeout: Some(mesh_xds_proto::Duration { seconds, nanos: 0 }),
                eds_cluster_config: Some(cluster::cluster::EdsClusterConfig {
                    service_name: service_name.to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
        );
        cache.publish(resources);
    };
    publish(1, "a");
    let mut peer = Peer::like_envoy(&cache);
    assert_eq!(peer.hear_all(), ["CDS web=", "EDS a=1 b=1", "LDS"]);
    publish(2, "a");
    assert_eq!(peer.hear_all(), ["CDS web=", "EDS a=1"]);
    publish(2, "b");
    assert_eq!(peer.hear_all(), ["CDS web=", "EDS b=1"]);
}

#[test]
fn the_version_tells_the_set_and_not_the_history() {
    let version_of = |cache: &ResourceCache| {
        let mut peer = Peer::new(cache);
        peer.wants(CDS, &[]);
        peer.hear_all();
        peer.versions[CDS].clone()
    };
    let (cache, other) = (ResourceCache::default(), ResourceCache::default());
    cache.publish(set(&[(CDS, "a", "1")]));
    let first = version_of(&cache);
    cache.publish(set(&[(CDS, "a", "1"), (CDS, "b", "1")]));
    let second = version_of(&cache);
    assert_ne!(first, second);
    other.publish(set(&[(CDS, "b", "1"), (CDS, "a", "1")]));
    assert_eq!(version_of(&other), second);
}

#[test]
fn a_refusal_by_name_leaves_the_others_acknowledged_and_stands() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(LDS, "good", "1"), (LDS, "bad", "1")]));
    let mut peer = Peer::new(&cache);
    peer.wants(CDS, &[]);
    peer.wants(LDS, &[]);
    assert_eq!(peer.hear().as_deref(), Some("CDS"));
    peer.answer(None);
    assert_eq!(peer.hear().as_deref(), Some("LDS bad=1 good=1"));
    peer.answer(Some("Error adding/updating listener(s) bad: no"));
    assert_eq!((peer.rejected(), peer.acked(LDS)), (vec!["bad".to_owned()], vec!["good"]));
    assert_eq!(peer.hear(), None, "the same again would be refused again");
    assert!(peer.is_settled());

    cache.publish(set(&[(LDS, "good", "2"), (LDS, "bad", "1")]));
    assert_eq!(peer.hear().as_deref(), Some("LDS bad=1 good=2"), "left out, its last good version would go");
    peer.answer(Some("Error adding/updating listener(s) bad: no"));
    cache.publish(set(&[(LDS, "good", "2"), (LDS, "bad", "2")]));
    assert_eq!(peer.hear_all(), ["LDS bad=2 good=2"]);
    assert_eq!((peer.rejected(), peer.acked(LDS)), (Vec::new(), vec!["bad", "good"]));
}

#[test]
fn a_refusal_without_a_name_is_about_what_was_new() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(CDS, "a", "1"), (CDS, "b", "1")]));
    let mut peer = Peer::new(&cache);
    peer.wants(CDS, &[]);
    peer.hear_all();
    cache.publish(set(&[(CDS, "a", "1"), (CDS, "b", "2")]));
    peer.hear();
    peer.answer(Some("no"));
    assert_eq!(peer.rejected(), ["b"]);
}

#[test]
fn an_old_nonce_is_no_answer_but_its_names_count() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(RDS, "a", "1"), (RDS, "b", "1")]));
    let mut peer = Peer::new(&cache);
    peer.wants(RDS, &["a"]);
    assert_eq!(peer.hear().as_deref(), Some("RDS a=1"));
    peer.wants(RDS, &["a", "b"]);
    assert!(peer.is_in_flight());
    assert_eq!(peer.hear(), None);
    peer.answer(None);
    assert_eq!(peer.hear_all(), ["RDS b=1"]);
}

#[test]
fn a_name_that_is_wanted_no_longer_is_told_when_it_is_wanted_again() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(RDS, "a", "1"), (RDS, "b", "1")]));
    let mut peer = Peer::new(&cache);
    peer.wants(RDS, &["a", "b"]);
    assert_eq!(peer.hear_all(), ["RDS a=1 b=1"]);
    peer.wants(RDS, &["a"]);
    assert_eq!(peer.acked(RDS), ["a"]);
    peer.wants(RDS, &["a", "b"]);
    assert_eq!(peer.hear_all(), ["RDS b=1"]);
    // Without a name, who has named something wants nothing.
    peer.wants(RDS, &[]);
    cache.publish(set(&[(RDS, "a", "2"), (RDS, "b", "2")]));
    assert_eq!(peer.hear_all(), [""; 0]);
}

#[test]
fn a_named_listener_that_is_not_there_is_answered() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(LDS, "a", "1")]));
    let mut peer = Peer::new(&cache);
    peer.wants(LDS, &["b"]);
    assert_eq!(peer.hear_all(), ["LDS"]);
    peer.wants(LDS, &["a", "b"]);
    assert_eq!(peer.hear_all(), ["LDS a=1"]);
    peer.wants(LDS, &["*"]);
    assert_eq!(peer.hear_all(), ["LDS a=1"]);
}

#[test]
fn only_what_needs_not_be_whole_is_cut() {
    let cache = ResourceCache::default();
    let content = "xxxxxxxxxx";
    let mut all = Vec::new();
    for type_url in [CDS, EDS] {
        all.extend(["a", "b", "c"].map(|name| (type_url, name, content)));
    }
    cache.publish(set(&all));
    let mut peer = Peer::like_envoy(&cache);
    let [a, b, c] = ["a", "b", "c"].map(|name| format!("{name}={content}"));
    assert_eq!(
        peer.hear_all(),
        [format!("CDS {a} {b} {c}"), format!("EDS {a} {b}"), format!("EDS {c}"), "LDS".to_owned()]
    );
}

#[test]
fn more_names_than_allowed_end_the_stream() {
    let mut peer = Peer::new(&ResourceCache::default());
    peer.names.insert(RDS, (0..11).map(|n| n.to_string()).collect());
    let error = peer.request(RDS, String::new(), None).unwrap_err();
    assert_eq!(error, format!("11 names of {RDS} are more than the 10 allowed"));
}

proptest! {
    /// Whatever is published and however late the answers come, a client ends with what is served.
    #[test]
    fn a_client_always_ends_with_what_is_served(
        steps in collection::vec(
            (
                collection::btree_set((0_usize..5, sample::select(vec!["a", "b", "c"]), 0_u8..3), 0..8),
                0_usize..4,
            ),
            1..12,
        ),
    ) {
        let cache = ResourceCache::default();
        let mut peer = Peer::like_envoy(&cache);
        let mut held = BTreeMap::new();
        let mut hear = |peer: &mut Peer| {
            let Some(text) = peer.hear() else { return false };
            let (short, resources) = text.split_once(' ').unwrap_or((&text, ""));
            if ["CDS", "LDS"].contains(&short) {
                held.retain(|(held, _), _| held != short);
            }
            for (name, content) in resources.split_whitespace().filter_map(|one| one.split_once('=')) {
                held.insert((short.to_owned(), name.to_owned()), content.to_owned());
            }
            true
        };
        for (resources, answers) in steps {
            let mut set = ResourceSet::default();
            for (position, name, content) in resources {
                set.insert(name, body(type_urls::IN_ORDER[position], &content.to_string()));
            }
            cache.publish(set);
            for _ in 0..answers {
                hear(&mut peer);
                if peer.last.is_some() {
                    peer.answer(None);
                }
            }
        }
        if peer.last.is_some() {
            peer.answer(None);
        }
        while hear(&mut peer) {
            peer.answer(None);
        }
        assert!(peer.is_settled());
        let served: BTreeMap<_, _> = cache
            .snapshot()
            .iter()
            .map(|(type_url, name, resource)| {
                let content = content_of(&resource.body);
                ((short(type_url).to_owned(), name.to_owned()), content)
            })
            .collect();
        let is_whole = |key: &(String, String)| ["CDS", "LDS"].contains(&key.0.as_str());
        let names = |map: &BTreeMap<(String, String), String>| -> BTreeSet<(String, String)> {
            map.keys().filter(|key| is_whole(key)).cloned().collect()
        };
        assert_eq!(names(&held), names(&served));
        for (key, content) in &served {
            assert_eq!(held.get(key), Some(content), "{key:?}");
        }
    }
}
