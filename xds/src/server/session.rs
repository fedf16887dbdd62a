//! One client's stream: which response comes next, without I/O.
//!
//! One response is in flight at a time. Additions go in the order of
//! [`type_urls::IN_ORDER`], each type only when every type before it has nothing to send and
//! everything acknowledged; removals go after all additions, in the reverse order. So nothing is
//! taken away before what replaces it is in use (make before break), a client that never answers
//! costs one response, and a slow one gets the latest state instead of every state.

use std::sync::Arc;

use mesh_xds_proto::{cluster::Cluster, decode, type_urls};
use sha2::{Digest, Sha256};

use super::{
    cache::Snapshot,
    subscription::{Content, Delivery, Request, Sent, Subscription},
};

/// The variant of xDS that a stream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Incremental: each response has what differs.
    Delta,
    /// State of the world: a response with listeners or clusters has all of them.
    StateOfTheWorld,
}

impl Protocol {
    /// `delta` or `sotw`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Delta => "delta",
            Protocol::StateOfTheWorld => "sotw",
        }
    }

    fn delivery(self, type_url: &str) -> Delivery {
        match self {
            Protocol::Delta => Delivery::Differences,
            // The specification's rule for these two types, and for no other.
            Protocol::StateOfTheWorld if [type_urls::CLUSTER, type_urls::LISTENER].contains(&type_url) => {
                Delivery::Whole
            }
            Protocol::StateOfTheWorld => Delivery::Parts,
        }
    }
}

/// What one client asked for, was told and answered, of all types.
#[derive(Debug)]
pub(super) struct Session {
    protocol: Protocol,
    subscriptions: [Subscription; type_urls::IN_ORDER.len()],
    nonce: u64,
    limits: SessionLimits,
    /// See [`mesh_xds_proto::Patch`].
    takes_patches: bool,
}

/// What a client may ask for, and how it is answered.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Responses are cut here, in bytes; a single resource may be larger.
    pub response_bytes: usize,
    /// Names that it may ask for one by one, of each type.
    pub names_per_type: usize,
}

/// A response, whatever the encoding.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) type_url: &'static str,
    pub(super) nonce: String,
    /// The snapshot's.
    pub(super) revision: u64,
    pub(super) resources: Vec<Sent>,
    /// Names; always empty in the state-of-the-world variant.
    pub(super) removed: Vec<String>,
    /// Of all resources of the type that the client holds after this: a hash, so the same set has the
    /// same version on every node. Empty in the delta variant, where each resource has its own.
    pub(super) version: String,
}

/// The client asks for more names than it may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{names} names of {type_url} are more than the {limit} allowed")]
pub struct TooManyNames {
    /// The type.
    pub type_url: String,
    /// How many it asks for.
    pub names: usize,
    /// How many it may.
    pub limit: usize,
}

impl Session {
    pub(super) fn new(protocol: Protocol, limits: SessionLimits) -> Self {
        let subscriptions =
            type_urls::IN_ORDER.map(|type_url| Subscription::new(protocol.delivery(type_url)));
        Self { protocol, subscriptions, nonce: 0, limits, takes_patches: false }
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Takes a request. Types that the mesh does not serve are ignored: the client gets no answer,
    /// as it would from a server without resources of the type.
    pub(super) fn receive(&mut self, type_url: &str, request: Request) -> Result<(), TooManyNames> {
        self.takes_patches |= request.takes_patches;
        let Some(position) = position(type_url) else {
            tracing::debug!(type_url, "request for a type that is not served");
            return Ok(());
        };
        let subscription = &mut self.subscriptions[position];
        subscription.receive(request);
        let names = subscription.names();
        if names > self.limits.names_per_type {
            let type_url = type_urls::IN_ORDER[position].to_owned();
            return Err(TooManyNames { type_url, names, limit: self.limits.names_per_type });
        }
        Ok(())
    }

    /// The next response, or `None` until a request comes or another snapshot is served.
    pub(super) fn next(&mut self, snapshot: &Arc<Snapshot>) -> Option<Response> {
        if snapshot.revision() == 0 {
            return None;
        }
        for (type_url, subscription) in type_urls::IN_ORDER.iter().zip(&mut self.subscriptions) {
            if subscription.is_in_flight() {
                return None;
            }
            subscription.plan(snapshot.resources(type_url));
        }
        let nonce = (self.nonce + 1).to_string();
        let limit = self.limits.response_bytes;
        let (position, content) =
            if let Some(adding) = self.subscriptions.iter().position(Subscription::has_additions) {
                self.warm_clusters(adding);
                (adding, self.subscriptions[adding].next_additions(nonce.clone(), limit, self.takes_patches))
            } else {
                let removing = self.subscriptions.iter().rposition(Subscription::has_removals)?;
                (removing, self.subscriptions[removing].next_removals(nonce.clone()))
            };
        self.nonce += 1;
        let version = match self.protocol {
            Protocol::Delta => String::new(),
            Protocol::StateOfTheWorld => version(&self.subscriptions[position]),
        };
        let Content { resources, removed } = content;
        let type_url = type_urls::IN_ORDER[position];
        Some(Response { type_url, nonce, revision: snapshot.revision(), resources, removed, version })
    }

    /// A client warms each cluster that is added or changed, and uses it when a response with its
    /// endpoints has come, also if they are those it knows. In the state of the world it has no way to
    /// ask for them again.
    fn warm_clusters(&mut self, adding: usize) {
        let is_clusters = type_urls::IN_ORDER[adding] == type_urls::CLUSTER;
        let Some(endpoints) = position(type_urls::ENDPOINT) else { return };
        if self.protocol != Protocol::StateOfTheWorld || !is_clusters {
            return;
        }
        let assignments: Vec<String> = self.subscriptions[adding]
            .additions()
            .filter_map(|(name, resource)| {
                let service = decode::<Cluster>(&resource.body).ok()?.eds_cluster_config?.service_name;
                Some(if service.is_empty() { name.to_owned() } else { service })
            })
            .collect();
        assignments.iter().for_each(|name| self.subscriptions[endpoints].tell_again(name));
    }

    /// Whether the client has answered everything that the snapshot has for it. Asked after `next`
    /// returned `None` for the same snapshot. Never before the client asked for clusters and
    /// listeners, as every proxy does.
    pub(super) fn is_settled(&self, snapshot: &Snapshot) -> bool {
        let idle = |subscription: &Subscription| {
            !subscription.is_in_flight() && !subscription.has_additions() && !subscription.has_removals()
        };
        let asked = |type_url| {
            self.subscriptions().any(|(known, subscription)| known == type_url && subscription.is_requested())
        };
        snapshot.revision() > 0
            && asked(type_urls::CLUSTER)
            && asked(type_urls::LISTENER)
            && self.subscriptions.iter().all(idle)
    }

    pub(super) fn subscriptions(&self) -> impl Iterator<Item = (&'static str, &Subscription)> {
        type_urls::IN_ORDER.into_iter().zip(&self.subscriptions)
    }
}

fn position(type_url: &str) -> Option<usize> {
    type_urls::IN_ORDER.iter().position(|known| *known == type_url)
}

fn version(subscription: &Subscription) -> String {
    let mut hash = Sha256::new();
    for (name, version) in subscription.told() {
        // Names have any characters but these.
        hash.update(format!("{name}\0{version}\0"));
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
