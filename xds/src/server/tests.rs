//! The state machine of one stream, without sockets.

mod patches;
mod sotw;

use mesh_xds_proto::{
    Any, Message, core,
    discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    rpc, type_urls,
};
use proptest::{collection, proptest, sample};

use super::{
    cache::{ResourceCache, ResourceSet},
    encoding::{Delta, Encoding, Received},
    rejection,
    session::{Protocol, Session, SessionLimits},
};

const CDS: &str = type_urls::CLUSTER;
const EDS: &str = type_urls::ENDPOINT;
const LDS: &str = type_urls::LISTENER;
const RDS: &str = type_urls::ROUTE;
const SDS: &str = type_urls::SECRET;

/// The short name of a type, for expectations that can be read.
fn short(type_url: &str) -> &'static str {
    [(CDS, "CDS"), (EDS, "EDS"), (LDS, "LDS"), (RDS, "RDS"), (SDS, "SDS")]
        .into_iter()
        .find(|(known, _)| *known == type_url)
        .unwrap()
        .1
}

/// A body of a type with some content. The messages are never decoded here.
fn body(type_url: &str, content: &str) -> Any {
    let value = core::ControlPlane { identifier: content.to_owned() }.encode_to_vec();
    Any { type_url: type_url.to_owned(), value }
}

/// A set from `(type, name, content)`.
fn set(resources: &[(&str, &str, &str)]) -> ResourceSet {
    let mut set = ResourceSet::default();
    for (type_url, name, content) in resources {
        set.insert(*name, body(type_url, content));
    }
    set
}

/// A client that does what the test says.
struct Peer {
    cache: ResourceCache,
    session: Session,
    last: Option<DeltaDiscoveryResponse>,
}

impl Peer {
    fn new(cache: &ResourceCache) -> Self {
        let limits = SessionLimits { response_bytes: 1 << 20, names_per_type: 10 };
        Self { cache: cache.clone(), session: Session::new(Protocol::Delta, limits), last: None }
    }

    fn subscribe(&mut self, type_url: &str, names: &[&str]) {
        self.request(DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        });
    }

    fn unsubscribe(&mut self, type_url: &str, names: &[&str]) {
        self.request(DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_unsubscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        });
    }

    fn everything(cache: &ResourceCache) -> Self {
        let mut peer = Self::new(cache);
        type_urls::IN_ORDER.iter().for_each(|type_url| peer.subscribe(type_url, &["*"]));
        peer
    }

    fn request(&mut self, request: DeltaDiscoveryRequest) {
        let Received { type_url, request, .. } = Delta::receive(request);
        self.session.receive(&type_url, request).unwrap();
    }

    /// The next response with something in it, as `CDS +a +b -c`. Empty ones before it are
    /// acknowledged.
    fn hear(&mut self) -> Option<String> {
        loop {
            let text = self.hear_any()?;
            if text.contains(' ') {
                return Some(text);
            }
            self.answer(None);
        }
    }

    /// The next response.
    fn hear_any(&mut self) -> Option<String> {
        let response = Delta::respond(self.session.next(&self.cache.snapshot())?);
        let mut text = short(&response.type_url).to_owned();
        response.resources.iter().for_each(|resource| text.push_str(&format!(" +{}", resource.name)));
        response.removed_resources.iter().for_each(|name| text.push_str(&format!(" -{name}")));
        self.last = Some(response);
        Some(text)
    }

    fn answer(&mut self, error_detail: Option<rpc::Status>) {
        let response = self.last.as_ref().expect("something to answer");
        let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
        self.request(DeltaDiscoveryRequest { type_url, response_nonce, error_detail, ..Default::default() });
    }

    /// All responses until there is none, each acknowledged.
    fn hear_all(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        while let Some(text) = self.hear() {
            heard.push(text);
            self.answer(None);
        }
        heard
    }

    fn nack(&mut self, message: &str) {
        self.answer(Some(rpc::Status { code: 3, message: message.to_owned(), details: Vec::new() }));
    }

    fn rejected(&self) -> Vec<String> {
        self.session
            .subscriptions()
            .flat_map(|(type_url, subscription)| {
                subscription
                    .rejected
                    .iter()
                    .map(move |(name, nack)| format!("{} {name}: {}", short(type_url), nack.message))
            })
            .collect()
    }

    fn acked(&self) -> Vec<&str> {
        self.session.subscriptions().flat_map(|(_, s)| s.acked.keys().map(String::as_str)).collect()
    }

    fn is_settled(&self) -> bool {
        self.session.is_settled(&self.cache.snapshot())
    }
}

#[test]
fn nothing_is_said_before_the_first_publishing() {
    let cache = ResourceCache::default();
    let mut peer = Peer::new(&cache);
    peer.request(DeltaDiscoveryRequest {
        type_url: CDS.into(),
        initial_resource_versions: [("old".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    });
    peer.subscribe(LDS, &["*"]);
    assert_eq!(peer.hear(), None);
    assert!(!peer.is_settled());
    cache.publish(ResourceSet::default());
    assert_eq!(peer.hear_all(), ["CDS -old"]);
    assert!(peer.is_settled());
}

#[test]
fn who_asks_for_everything_is_answered_once_although_there_is_nothing() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(LDS, "l", "")]));
    let mut peer = Peer::new(&cache);
    peer.subscribe(CDS, &["*"]);
    peer.subscribe(LDS, &[]);
    peer.subscribe(RDS, &["*"]);
    for expected in ["CDS", "LDS +l", "RDS"] {
        assert_eq!(peer.hear_any().as_deref(), Some(expected));
        assert!(!peer.is_settled());
        peer.answer(None);
    }
    assert_eq!(peer.hear_any(), None);
    assert!(peer.is_settled());
}

#[test]
fn additions_come_in_order_and_removals_after_them_in_reverse() {
    let cache = ResourceCache::default();
    cache.publish(set(&[
        (RDS, "r1", ""),
        (SDS, "s1", ""),
        (LDS, "l1", ""),
        (EDS, "e1", ""),
        (CDS, "c1", ""),
    ]));
    let mut peer = Peer::everything(&cache);
    assert_eq!(peer.hear_all(), ["CDS +c1", "EDS +e1", "LDS +l1", "SDS +s1", "RDS +r1"]);

    cache.publish(set(&[
        (RDS, "r2", ""),
        (SDS, "s2", ""),
        (LDS, "l2", ""),
        (EDS, "e2", ""),
        (CDS, "c2", ""),
    ]));
    assert_eq!(
        peer.hear_all(),
        [
            "CDS +c2", "EDS +e2", "LDS +l2", "SDS +s2", "RDS +r2", "RDS -r1", "SDS -s1", "LDS -l1",
            "EDS -e1", "CDS -c1",
        ]
    );
    assert!(peer.is_settled());
}

#[test]
fn a_name_asked_for_before_the_answer_comes_before_the_types_after_it() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(CDS, "c", ""), (EDS, "c", ""), (RDS, "r", "")]));
    let mut peer = Peer::new(&cache);
    peer.subscribe(CDS, &["*"]);
    peer.subscribe(RDS, &["*"]);
    assert_eq!(peer.hear().as_deref(), Some("CDS +c"));
    // As our client does: it has read the cluster, wants its endpoints, and only then answers.
    peer.subscribe(EDS, &["c"]);
    peer.answer(None);
    assert_eq!(peer.hear_all(), ["EDS +c", "RDS +r"]);
}

#[test]
fn nothing_follows_before_the_answer() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(CDS, "a", ""), (LDS, "b", "")]));
    let mut peer = Peer::everything(&cache);
    assert_eq!(peer.hear().as_deref(), Some("CDS +a"));
    assert_eq!(peer.hear(), None);
    assert!(!peer.is_settled());
    peer.answer(None);
    assert_eq!(peer.hear().as_deref(), Some("LDS +b"));
}

#[test]
fn only_what_changed_is_sent() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(CDS, "a", "1"), (CDS, "b", "1"), (CDS, "c", "1")]));
    let mut peer = Peer::everything(&cache);
    assert_eq!(peer.hear_all(), ["CDS +a +b +c"]);
    cache.publish(set(&[(CDS, "a", "1"), (CDS, "b", "2"), (CDS, "c", "1")]));
    assert_eq!(peer.hear_all(), ["CDS +b"]);
    cache.publish(set(&[(CDS, "a", "1"), (CDS, "b", "2"), (CDS, "c", "1")]));
    assert_eq!(peer.hear_all(), [""; 0]);
}

#[test]
fn a_client_that_does_not_answer_gets_the_latest_state_and_no_queue() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(CDS, "a", "0")]));
    let mut peer = Peer::everything(&cache);
    peer.hear();
    for content in ["1", "2", "3"] {
        cache.publish(set(&[(CDS, "a", content), (CDS, content, "")]));
        assert_eq!(peer.hear(), None);
    }
    peer.answer(None);
    assert_eq!(peer.hear_all(), ["CDS +3 +a"]);
}

#[test]
fn a_refused_version_is_not_sent_again_but_the_next_one_is() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(CDS, "good", "1"), (CDS, "bad", "1")]));
    let mut peer = Peer::everything(&cache);
    peer.hear();
    peer.nack("bad: connect_timeout: negative");
    assert_eq!(peer.rejected(), ["CDS bad: bad: connect_timeout: negative"]);
    assert_eq!(peer.acked(), ["good"]);
    assert_eq!(peer.hear(), None);
    assert!(peer.is_settled());

    cache.publish(set(&[(CDS, "good", "2"), (CDS, "bad", "1")]));
    assert_eq!(peer.hear_all(), ["CDS +good"]);
    assert_eq!(peer.rejected().len(), 1, "the refusal stands");
    cache.publish(set(&[(CDS, "good", "2"), (CDS, "bad", "2")]));
    assert_eq!(peer.hear_all(), ["CDS +bad"]);
    assert_eq!(peer.rejected(), [""; 0]);
}

#[test]
fn a_refused_resource_goes_back_to_its_last_good_version() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(CDS, "a", "1")]));
    let mut peer = Peer::everything(&cache);
    peer.hear_all();
    cache.publish(set(&[(CDS, "a", "2")]));
    peer.hear();
    peer.nack("a: no");
    cache.publish(set(&[(CDS, "a", "1")]));
    assert_eq!(peer.hear_all(), ["CDS +a"]);
    assert_eq!(peer.rejected(), [""; 0]);
}

#[test]
fn a_removal_clears_the_refusal() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(CDS, "a", "1")]));
    let mut peer = Peer::everything(&cache);
    peer.hear();
    peer.nack("a: no");
    cache.publish(ResourceSet::default());
    assert_eq!(peer.hear_all(), ["CDS -a"]);
    assert_eq!(peer.rejected(), [""; 0]);
    assert!(peer.is_settled());
}

#[test]
fn a_refusal_by_name_in_the_details_spares_the_others() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(CDS, "a", ""), (CDS, "a-b", ""), (CDS, "b", "")]));
    let mut peer = Peer::everything(&cache);
    peer.hear();
    peer.answer(Some(rejection::status(&[("a-b".into(), "unlike a and b".into())])));
    assert_eq!(peer.rejected(), ["CDS a-b: unlike a and b"]);
}

#[test]
fn a_refusal_in_words_is_about_the_names_in_it_or_about_all() {
    for (message, expected) in [
        ("Error adding/updating cluster(s) a-b: bad timeout", &["a-b"][..]),
        ("a: bad. a/b: fine.", &["a"]),
        ("the trouble is with b.", &["b"]),
        ("out of memory", &["a", "a-b", "b"]),
    ] {
        let status = rpc::Status { code: 3, message: message.into(), details: Vec::new() };
        let refused = rejection::by_resource(&status, ["a", "a-b", "b"].into_iter());
        assert_eq!(refused.keys().collect::<Vec<_>>(), expected, "{message}");
    }
}

#[test]
fn a_long_refusal_is_remembered_in_part() {
    let text = "ä".repeat(1 << 20);
    let status = rpc::Status { code: 3, message: text, details: Vec::new() };
    let refused = rejection::by_resource(&status, ["a"].into_iter());
    assert_eq!(refused["a"].len(), 2048);
}

#[test]
fn an_answer_to_an_older_response_is_ignored() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(CDS, "a", "1")]));
    let mut peer = Peer::everything(&cache);
    peer.hear();
    let first = peer.last.clone().unwrap();
    peer.answer(None);
    cache.publish(set(&[(CDS, "a", "2")]));
    peer.hear();
    peer.request(DeltaDiscoveryRequest {
        type_url: CDS.into(),
        response_nonce: first.nonce,
        error_detail: Some(rpc::Status::default()),
        ..Default::default()
    });
    assert_eq!(peer.rejected(), [""; 0]);
    assert!(!peer.is_settled());
}

#[test]
fn who_comes_back_gets_the_difference_to_what_it_has() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(CDS, "same", "1"), (CDS, "old", "1"), (CDS, "gone", "1")]));
    let versions = cache
        .snapshot()
        .iter()
        .map(|(_, name, resource)| (name.to_owned(), resource.version.clone()))
        .collect();
    // Another cache, as after a restart of the agent: versions depend on content alone.
    let cache = ResourceCache::default();
    cache.publish(set(&[(CDS, "same", "1"), (CDS, "old", "2"), (CDS, "new", "1")]));
    let mut peer = Peer::new(&cache);
    peer.request(DeltaDiscoveryRequest {
        type_url: CDS.into(),
        initial_resource_versions: versions,
        ..Default::default()
    });
    assert_eq!(peer.hear_all(), ["CDS +new +old", "CDS -gone"]);
}

#[test]
fn names_are_sent_when_asked_for_and_missing_ones_when_they_appear() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(RDS, "a", ""), (RDS, "b", "")]));
    let mut peer = Peer::new(&cache);
    peer.subscribe(RDS, &["a", "late"]);
    assert_eq!(peer.hear_all(), ["RDS +a", "RDS -late"]);
    cache.publish(set(&[(RDS, "a", ""), (RDS, "b", ""), (RDS, "late", "")]));
    assert_eq!(peer.hear_all(), ["RDS +late"]);
    peer.subscribe(RDS, &["b"]);
    assert_eq!(peer.hear_all(), ["RDS +b"]);
}

#[test]
fn a_name_that_is_asked_for_again_is_sent_again() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(EDS, "a", "")]));
    let mut peer = Peer::new(&cache);
    peer.subscribe(EDS, &["a"]);
    peer.hear_all();
    peer.subscribe(EDS, &["a"]);
    assert_eq!(peer.hear_all(), ["EDS +a"]);
}

#[test]
fn an_unsubscribed_name_is_neither_sent_nor_remembered() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(RDS, "a", "1"), (RDS, "b", "1")]));
    let mut peer = Peer::new(&cache);
    peer.subscribe(RDS, &["a", "b"]);
    peer.hear_all();
    peer.unsubscribe(RDS, &["a"]);
    assert_eq!(peer.acked(), ["b"]);
    cache.publish(set(&[(RDS, "a", "2"), (RDS, "b", "2")]));
    assert_eq!(peer.hear_all(), ["RDS +b"]);
}

#[test]
fn an_answer_after_unsubscribing_leaves_no_trace() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(RDS, "a", "1")]));
    let mut peer = Peer::new(&cache);
    peer.subscribe(RDS, &["a"]);
    peer.hear();
    peer.unsubscribe(RDS, &["a"]);
    peer.nack("a: no");
    assert_eq!(peer.rejected(), [""; 0]);
    assert_eq!(peer.acked(), [""; 0]);
}

#[test]
fn an_empty_first_request_asks_for_everything_and_a_later_one_does_not() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(CDS, "a", ""), (RDS, "a", ""), (RDS, "b", "")]));
    let mut peer = Peer::new(&cache);
    peer.subscribe(CDS, &[]);
    peer.subscribe(RDS, &["a"]);
    peer.subscribe(RDS, &[]);
    assert_eq!(peer.hear_all(), ["CDS +a", "RDS +a"]);
}

#[test]
fn large_sets_are_cut_into_responses() {
    let cache = ResourceCache::default();
    cache.publish(set(&[(CDS, "a", "xxxxxxxxxx"), (CDS, "b", "xxxxxxxxxx"), (CDS, "c", "xxxxxxxxxx")]));
    let limits = SessionLimits { response_bytes: 300, names_per_type: 10 };
    let mut peer = Peer { session: Session::new(Protocol::Delta, limits), ..Peer::new(&cache) };
    peer.subscribe(CDS, &["*"]);
    assert_eq!(peer.hear_all(), ["CDS +a +b", "CDS +c"]);
}

#[test]
fn more_names_than_allowed_end_the_stream() {
    let mut peer = Peer::new(&ResourceCache::default());
    let names = (0..11).map(|n| n.to_string()).collect();
    let Received { type_url, request, .. } = Delta::receive(DeltaDiscoveryRequest {
        type_url: RDS.into(),
        resource_names_subscribe: names,
        ..Default::default()
    });
    let error = peer.session.receive(&type_url, request).unwrap_err();
    assert_eq!(error.to_string(), format!("11 names of {RDS} are more than the 10 allowed"));
}

#[test]
fn a_type_that_is_not_served_is_ignored() {
    let mut peer = Peer::everything(&ResourceCache::default());
    peer.cache.publish(set(&[(CDS, "a", "")]));
    peer.subscribe("type.googleapis.com/envoy.service.runtime.v3.Runtime", &["x"]);
    assert_eq!(peer.hear_all(), ["CDS +a"]);
}

#[test]
fn publishing_says_what_it_changed() {
    let cache = ResourceCache::default();
    let publish = |resources: &[(&str, &str, &str)]| {
        let published = cache.publish(set(resources));
        (published.revision, published.changed, published.removed)
    };
    assert_eq!(publish(&[]), (1, 0, 0));
    assert_eq!(publish(&[(CDS, "a", "1"), (RDS, "b", "1")]), (2, 2, 0));
    assert_eq!(publish(&[(CDS, "a", "1"), (RDS, "b", "1")]), (2, 0, 0));
    assert_eq!(publish(&[(CDS, "a", "2"), (CDS, "c", "1")]), (3, 2, 1));
    assert_eq!(publish(&[]), (4, 0, 2));
}

#[test]
fn debug_output_names_resources_and_shows_no_body() {
    let cache = ResourceCache::default();
    let secret = set(&[(SDS, "web", "AAAA")]);
    let shown_set = format!("{secret:?}");
    cache.publish(secret);
    for shown in [shown_set, format!("{cache:?}"), format!("{:?}", cache.snapshot())] {
        // How the bytes of the content are printed in a `Vec<u8>`.
        assert!(!shown.contains("65, 65, 65"), "{shown}");
        assert!(shown.contains("web"), "{shown}");
    }
}

#[test]
fn the_order_of_a_hash_map_is_no_change() {
    let cache = ResourceCache::default();
    let publish = |names: &mut dyn Iterator<Item = u32>| {
        let filter_metadata = names.map(|n| (n.to_string(), Default::default())).collect();
        let metadata = Some(core::Metadata { filter_metadata, ..Default::default() });
        let mut set = ResourceSet::default();
        set.insert_message("a", &mesh_xds_proto::cluster::Cluster { metadata, ..Default::default() });
        cache.publish(set).revision
    };
    assert_eq!(publish(&mut (0..30)), publish(&mut (0..30).rev()));
}

proptest! {
    /// Whatever is published and however late the answers come, a client ends with what is served,
    /// each removal comes after the additions of its publishing, and no version comes twice in a row.
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
        let mut peer = Peer::everything(&cache);
        let mut held = std::collections::BTreeMap::new();
        for (resources, answers) in steps {
            let mut set = ResourceSet::default();
            for (position, name, content) in resources {
                set.insert(name, body(type_urls::IN_ORDER[position], &content.to_string()));
            }
            cache.publish(set);
            for _ in 0..answers {
                if peer.hear().is_some() {
                    apply(&mut held, peer.last.as_ref().unwrap());
                }
                if peer.last.is_some() {
                    peer.answer(None);
                }
            }
        }
        if peer.last.is_some() {
            peer.answer(None);
        }
        while peer.hear().is_some() {
            apply(&mut held, peer.last.as_ref().unwrap());
            peer.answer(None);
        }
        assert!(peer.is_settled());
        let served = cache
            .snapshot()
            .iter()
            .map(|(type_url, name, resource)| ((type_url.to_owned(), name.to_owned()), resource.version.clone()))
            .collect();
        assert_eq!(held, served);
    }
}

fn apply(held: &mut std::collections::BTreeMap<(String, String), String>, response: &DeltaDiscoveryResponse) {
    for resource in &response.resources {
        let before =
            held.insert((response.type_url.clone(), resource.name.clone()), resource.version.clone());
        assert_ne!(before.as_ref(), Some(&resource.version), "sent twice");
    }
    for name in &response.removed_resources {
        held.remove(&(response.type_url.clone(), name.clone())).expect("removes what was sent");
    }
}
