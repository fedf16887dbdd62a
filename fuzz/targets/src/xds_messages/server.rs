//! The agent's side of a stream, of either variant of the protocol.

use std::collections::BTreeSet;

use mesh_xds::server::{Dialogue, Protocol, ResourceCache, ResourceSet, SessionLimits};
use mesh_xds_proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use mesh_xds_proto::{Any, Message, cluster, endpoint, rpc, type_urls};

/// Responses are cut here.
const RESPONSE_BYTES: usize = 256;

/// Names that a client may ask for, of each type.
const NAMES: usize = 16;

/// The messages of a variant.
pub(super) trait Variant {
    const PROTOCOL: Protocol;
    type Request: Message + Default;

    /// False when the client asks for too much.
    fn receive(dialogue: &mut Dialogue, request: Self::Request) -> bool;
    fn next(dialogue: &mut Dialogue, cache: &ResourceCache) -> Option<Response>;
    fn type_and_nonce(request: &Self::Request) -> (&str, &str);
    fn answer(response: &Response, error_detail: Option<rpc::Status>) -> Self::Request;
}

/// What both variants' responses have.
pub(super) struct Response {
    type_url: String,
    nonce: String,
    version: String,
    bodies: Vec<Any>,
    /// Bytes of the resources, where a response is cut.
    bytes: Option<usize>,
}

/// Incremental.
pub(super) struct Delta;

impl Variant for Delta {
    const PROTOCOL: Protocol = Protocol::Delta;
    type Request = DeltaDiscoveryRequest;

    fn receive(dialogue: &mut Dialogue, request: Self::Request) -> bool {
        dialogue.receive_delta(request).is_ok()
    }

    fn next(dialogue: &mut Dialogue, cache: &ResourceCache) -> Option<Response> {
        let DeltaDiscoveryResponse { type_url, nonce, resources, .. } =
            dialogue.next_delta(&cache.snapshot())?;
        let bytes = Some(resources.iter().map(Message::encoded_len).sum());
        let bodies = resources.into_iter().filter_map(|resource| resource.resource).collect();
        Some(Response { type_url, nonce, version: String::new(), bodies, bytes })
    }

    fn type_and_nonce(request: &Self::Request) -> (&str, &str) {
        (&request.type_url, &request.response_nonce)
    }

    fn answer(response: &Response, error_detail: Option<rpc::Status>) -> Self::Request {
        let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
        DeltaDiscoveryRequest { type_url, response_nonce, error_detail, ..Default::default() }
    }
}

/// State of the world.
pub(super) struct StateOfTheWorld;

impl Variant for StateOfTheWorld {
    const PROTOCOL: Protocol = Protocol::StateOfTheWorld;
    type Request = DiscoveryRequest;

    fn receive(dialogue: &mut Dialogue, request: Self::Request) -> bool {
        dialogue.receive_state(request).is_ok()
    }

    fn next(dialogue: &mut Dialogue, cache: &ResourceCache) -> Option<Response> {
        let response = dialogue.next_state(&cache.snapshot())?;
        let DiscoveryResponse { type_url, nonce, version_info, resources, .. } = response;
        Some(Response { type_url, nonce, version: version_info, bodies: resources, bytes: None })
    }

    fn type_and_nonce(request: &Self::Request) -> (&str, &str) {
        (&request.type_url, &request.response_nonce)
    }

    fn answer(response: &Response, error_detail: Option<rpc::Status>) -> Self::Request {
        DiscoveryRequest {
            version_info: response.version.clone(),
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail,
            ..Default::default()
        }
    }
}

/// One stream of a server, and what was seen of it.
pub(super) struct Server<V: Variant> {
    dialogue: Dialogue,
    cache: ResourceCache,
    in_flight: Option<Response>,
    nonces: BTreeSet<String>,
    /// Whether the stream was ended because the client asked for too much.
    ended: bool,
    variant: std::marker::PhantomData<V>,
}

impl<V: Variant> Server<V> {
    pub(super) fn new() -> Self {
        let limits = SessionLimits { response_bytes: RESPONSE_BYTES, names_per_type: NAMES };
        let server = Self {
            dialogue: Dialogue::new(V::PROTOCOL, limits),
            cache: ResourceCache::default(),
            in_flight: None,
            nonces: BTreeSet::new(),
            ended: false,
            variant: std::marker::PhantomData,
        };
        server.publish(3);
        server
    }

    /// Some clusters with endpoints; which ones and in which version depends on the number.
    pub(super) fn publish(&self, number: usize) {
        let mut set = ResourceSet::default();
        for index in (0..12).filter(|index| number >> (index % 8) & 1 == 1) {
            let name = format!("c{index}");
            set.insert_message(&name, &cluster::Cluster { name: name.clone(), ..Default::default() });
            let endpoints = endpoint::ClusterLoadAssignment {
                cluster_name: name.clone(),
                policy: (number > 255).then(Default::default),
                ..Default::default()
            };
            set.insert_message(&name, &endpoints);
        }
        self.cache.publish(set);
    }

    /// Takes a request as bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        if let Ok(request) = V::Request::decode(bytes) {
            self.receive(request);
        }
    }

    /// Answers what is in flight.
    pub(super) fn answer(&mut self, error_detail: Option<rpc::Status>) {
        if let Some(response) = &self.in_flight {
            self.receive(V::answer(response, error_detail));
        }
    }

    fn receive(&mut self, request: V::Request) {
        if self.ended {
            return;
        }
        let (type_url, nonce) = V::type_and_nonce(&request);
        if self.in_flight.as_ref().is_some_and(|sent| sent.type_url == type_url && sent.nonce == nonce) {
            self.in_flight = None;
        }
        if !V::receive(&mut self.dialogue, request) {
            self.ended = true;
            return;
        }
        if let Some(response) = V::next(&mut self.dialogue, &self.cache) {
            self.sent(response);
        }
    }

    fn sent(&mut self, response: Response) {
        assert!(self.in_flight.is_none(), "a second response is in flight");
        assert!(self.nonces.insert(response.nonce.clone()), "a nonce came twice");
        assert!(type_urls::IN_ORDER.contains(&response.type_url.as_str()));
        let is_small = response.bytes.is_none_or(|bytes| bytes <= RESPONSE_BYTES);
        assert!(response.bodies.len() <= 1 || is_small, "a response of {:?} bytes", response.bytes);
        assert!(response.bodies.iter().all(|body| body.type_url == response.type_url));
        self.in_flight = Some(response);
    }

    /// A client that acknowledges everything from now on has everything soon.
    pub(super) fn settles(&mut self) {
        // Of each type at most one for each resource and each name asked for, told twice.
        let most = type_urls::IN_ORDER.len() * (24 + NAMES) * 2;
        for _ in 0..most {
            if self.in_flight.is_none() {
                match V::next(&mut self.dialogue, &self.cache) {
                    Some(response) => self.sent(response),
                    None => return,
                }
            }
            self.answer(None);
            if self.ended {
                return;
            }
        }
        panic!("{most} responses were acknowledged, and there is another");
    }
}
