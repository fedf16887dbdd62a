//! What one client has and wants of one type: the state machine of incremental xDS, without I/O.
//!
//! Follows <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds>.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_xds_proto::discovery::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use super::{cache::Resources, rejection};

/// A version that the client refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// The refused version; the client keeps the one it had.
    pub version: String,
    /// What the client says is wrong.
    pub message: String,
}

/// One client's state for one type.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    requested: bool,
    wildcard: bool,
    /// It has asked for everything and not heard yet: it is answered even if there is nothing, or
    /// Envoy waits 15 s before it goes on to the next type.
    unanswered: bool,
    names: BTreeSet<String>,
    /// What the client was told last. Bounded by what it asked for.
    told: BTreeMap<String, Told>,
    in_flight: Option<InFlight>,
    pub(super) acked: BTreeMap<String, String>,
    pub(super) rejected: BTreeMap<String, Nack>,
    /// What `plan` was made from.
    planned_for: Option<Arc<Resources>>,
    plan: Plan,
    stale: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Version(String),
    /// It asked for the name and was told that there is no such resource.
    Missing,
}

#[derive(Debug)]
struct InFlight {
    nonce: String,
    added: Vec<(String, String)>,
    removed: Vec<String>,
}

/// What is to be sent, sorted.
#[derive(Debug, Default)]
struct Plan {
    add: Vec<String>,
    remove: Vec<String>,
}

impl Subscription {
    /// Takes a request: a change of the subscription, an answer to a response, or both.
    pub(super) fn receive(&mut self, request: DeltaDiscoveryRequest) {
        self.answered(&request);
        let first = !std::mem::replace(&mut self.requested, true);
        // An old way to say `*`, only in the first request of a type.
        if first && request.resource_names_subscribe.is_empty() && request.response_nonce.is_empty() {
            self.subscribe_to_all();
        }
        for name in request.resource_names_subscribe {
            self.stale = true;
            if name == "*" {
                self.subscribe_to_all();
            } else {
                // Who asks again is told again, whatever it had.
                self.told.remove(&name);
                self.names.insert(name);
            }
        }
        let mut narrowed = false;
        for name in request.resource_names_unsubscribe {
            narrowed = true;
            if name == "*" {
                self.wildcard = false;
                self.unanswered = false;
            } else {
                self.names.remove(&name);
            }
        }
        if first {
            for (name, version) in request.initial_resource_versions {
                self.acked.insert(name.clone(), version.clone());
                self.told.insert(name, Told::Version(version));
            }
        }
        if first || narrowed {
            self.stale = true;
            self.forget_unwanted();
        }
    }

    fn subscribe_to_all(&mut self) {
        self.wildcard = true;
        self.unanswered = true;
    }

    fn forget_unwanted(&mut self) {
        if self.wildcard {
            return;
        }
        self.told.retain(|name, _| self.names.contains(name));
        self.acked.retain(|name, _| self.names.contains(name));
        self.rejected.retain(|name, _| self.names.contains(name));
    }

    fn answered(&mut self, request: &DeltaDiscoveryRequest) {
        // An answer to anything but the last response says nothing new.
        let Some(response) = self.in_flight.take_if(|response| response.nonce == request.response_nonce)
        else {
            return;
        };
        for name in &response.removed {
            self.acked.remove(name);
            self.rejected.remove(name);
        }
        let mut refused = match &request.error_detail {
            Some(status) => {
                rejection::by_resource(status, response.added.iter().map(|(name, _)| name.as_str()))
            }
            None => BTreeMap::new(),
        };
        for (name, version) in response.added {
            // It may have unsubscribed in the meantime.
            if !self.wants(&name) {
                continue;
            }
            match refused.remove(&name) {
                Some(message) => drop(self.rejected.insert(name, Nack { version, message })),
                None => {
                    self.rejected.remove(&name);
                    self.acked.insert(name, version);
                }
            }
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    pub(super) fn is_requested(&self) -> bool {
        self.requested
    }

    /// How many names the client asked for one by one.
    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    /// Compares with what is served, if either side changed since the last time.
    pub(super) fn plan(&mut self, served: Option<&Arc<Resources>>) {
        let same = match (&self.planned_for, served) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if (same && !self.stale) || !self.requested {
            return;
        }
        self.stale = false;
        self.planned_for = served.cloned();
        let empty = Resources::new();
        let served = served.map_or(&empty, |served| &**served);

        let differs = |name: &str| {
            served.get(name).is_some_and(|resource| {
                !matches!(self.told.get(name), Some(Told::Version(told)) if *told == resource.version)
            })
        };
        self.plan.add = if self.wildcard {
            served.keys().filter(|name| differs(name)).cloned().collect()
        } else {
            self.names.iter().filter(|name| differs(name)).cloned().collect()
        };
        let gone =
            self.told.iter().filter(|(name, told)| **told != Told::Missing && !served.contains_key(*name));
        let never =
            self.names.iter().filter(|name| !served.contains_key(*name) && !self.told.contains_key(*name));
        let remove: BTreeSet<&String> = gone.map(|(name, _)| name).chain(never).collect();
        self.plan.remove = remove.into_iter().cloned().collect();
    }

    /// Whether there are additions, or the news that there are none.
    pub(super) fn has_additions(&self) -> bool {
        !self.plan.add.is_empty() || self.unanswered
    }

    pub(super) fn has_removals(&self) -> bool {
        !self.plan.remove.is_empty()
    }

    /// The next additions: at least one if there is any, at most as many as fit into `limit` bytes.
    pub(super) fn next_additions(&mut self, nonce: String, limit: usize) -> DeltaDiscoveryResponse {
        let served = self.planned_for.clone().unwrap_or_default();
        let mut resources = Vec::new();
        let mut added = Vec::new();
        let mut bytes = 0;
        for name in &self.plan.add {
            let resource = served.get(name).expect("planned from this set");
            bytes += resource.body.value.len() + name.len();
            if bytes > limit && !resources.is_empty() {
                break;
            }
            resources.push(discovery::Resource {
                name: name.clone(),
                version: resource.version.clone(),
                resource: Some(resource.body.clone()),
                ..Default::default()
            });
            added.push((name.clone(), resource.version.clone()));
        }
        self.plan.add.drain(..added.len());
        self.unanswered = false;
        for (name, version) in &added {
            self.told.insert(name.clone(), Told::Version(version.clone()));
        }
        self.in_flight = Some(InFlight { nonce: nonce.clone(), added, removed: Vec::new() });
        DeltaDiscoveryResponse { nonce, resources, ..Default::default() }
    }

    /// All removals: they are names only.
    pub(super) fn next_removals(&mut self, nonce: String) -> DeltaDiscoveryResponse {
        let removed = std::mem::take(&mut self.plan.remove);
        for name in &removed {
            if self.names.contains(name) {
                self.told.insert(name.clone(), Told::Missing);
            } else {
                self.told.remove(name);
            }
        }
        self.in_flight = Some(InFlight { nonce: nonce.clone(), added: Vec::new(), removed: removed.clone() });
        DeltaDiscoveryResponse { nonce, removed_resources: removed, ..Default::default() }
    }
}
