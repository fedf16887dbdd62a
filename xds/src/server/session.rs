//! One client's stream: which response comes next, without I/O.
//!
//! One response is in flight at a time. Additions go in the order of
//! [`type_urls::IN_ORDER`], each type only when every type before it has nothing to send and
//! everything acknowledged; removals go after all additions, in the reverse order. So nothing is
//! taken away before what replaces it is in use (make before break), a client that never answers
//! costs one response, and a slow one gets the latest state instead of every state.

use std::sync::Arc;

use mesh_xds_proto::{
    core::ControlPlane,
    discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    type_urls,
};

use super::{cache::Snapshot, subscription::Subscription};

/// What one client asked for, was told and answered, of all types.
#[derive(Debug)]
pub(super) struct Session {
    subscriptions: [Subscription; type_urls::IN_ORDER.len()],
    nonce: u64,
    limits: SessionLimits,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct SessionLimits {
    pub(super) response_bytes: usize,
    pub(super) names_per_type: usize,
}

/// The client asks for more names than it may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{names} names of {type_url} are more than the {limit} allowed")]
pub(super) struct TooManyNames {
    pub(super) type_url: String,
    pub(super) names: usize,
    pub(super) limit: usize,
}

impl Session {
    pub(super) fn new(limits: SessionLimits) -> Self {
        Self { subscriptions: Default::default(), nonce: 0, limits }
    }

    /// Takes a request. Types that the mesh does not serve are ignored: the client gets no answer,
    /// as it would from a server without resources of the type.
    pub(super) fn receive(&mut self, request: DeltaDiscoveryRequest) -> Result<(), TooManyNames> {
        let Some(position) = type_urls::IN_ORDER.iter().position(|known| *known == request.type_url) else {
            tracing::debug!(type_url = request.type_url, "request for a type that is not served");
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
    pub(super) fn next(&mut self, snapshot: &Arc<Snapshot>) -> Option<DeltaDiscoveryResponse> {
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
        let mut in_order = type_urls::IN_ORDER.iter().zip(&mut self.subscriptions);
        let (type_url, response) = if let Some((type_url, adding)) =
            in_order.find(|(_, subscription)| subscription.has_additions())
        {
            (type_url, adding.next_additions(nonce, limit))
        } else {
            let mut in_order = type_urls::IN_ORDER.iter().zip(&mut self.subscriptions);
            let (type_url, removing) = in_order.rfind(|(_, subscription)| subscription.has_removals())?;
            (type_url, removing.next_removals(nonce))
        };
        self.nonce += 1;
        Some(DeltaDiscoveryResponse {
            type_url: (*type_url).to_owned(),
            system_version_info: snapshot.revision().to_string(),
            control_plane: Some(ControlPlane { identifier: "millrace".to_owned() }),
            ..response
        })
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
