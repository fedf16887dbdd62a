//! What one client has and wants of one type: the state machine of both variants of xDS, without I/O.
//!
//! Follows <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol>. The variants differ in
//! how a client says what it wants ([`Interest`]) and in what a response holds ([`Delivery`]); what is
//! compared, told, acknowledged and refused is the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_xds_proto::{Message, Patch, rpc::Status};

use super::{
    cache::{Resource, Resources},
    rejection,
};

/// A version that the client refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// The refused version; the client keeps the one it had.
    pub version: String,
    /// What the client says is wrong.
    pub message: String,
}

/// A request about one type, whatever the encoding.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) interest: Interest,
    /// The response that this answers; empty when it answers none.
    pub(super) nonce: String,
    /// Set when resources of that response are refused.
    pub(super) error_detail: Option<Status>,
    /// Name and version of what the client has from an earlier stream; read in the first request.
    pub(super) held: Vec<(String, String)>,
    /// Whether the client says that it takes patches.
    pub(super) takes_patches: bool,
}

/// What a request says about the wanted names. `*` is everything.
#[derive(Debug)]
pub(super) enum Interest {
    /// These more, those no longer.
    Changed { subscribe: Vec<String>, unsubscribe: Vec<String> },
    /// All names, in place of those before.
    Names(Vec<String>),
}

/// What a response holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// What differs, and the names of what is gone.
    Differences,
    /// Everything, always in one response: what is not in it is gone.
    Whole,
    /// What differs. What is gone cannot be told: the client drops it with what refers to it.
    Parts,
}

/// The part of a response that a subscription decides.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) resources: Vec<Sent>,
    pub(super) removed: Vec<String>,
}

/// A resource in a response.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) name: String,
    pub(super) resource: Arc<Resource>,
    /// Stands for the body, to a client that has the version before.
    pub(super) patch: Option<Patch>,
}

impl Sent {
    /// Bytes in a response of either variant, or a little more. The type's URL, which each carries, is most of a
    /// small one.
    fn wire_bytes(&self) -> usize {
        /// Tags and lengths.
        const FRAMING: usize = 24;
        let Resource { version, body, .. } = &*self.resource;
        let bytes = match &self.patch {
            Some(patch) => Patch::TYPE_URL.len() + patch.encoded_len(),
            None => body.type_url.len() + body.value.len(),
        };
        self.name.len() + version.len() + bytes + FRAMING
    }
}

/// One client's state for one type.
#[derive(Debug)]
pub(super) struct Subscription {
    delivery: Delivery,
    requested: bool,
    /// Without names in its first request, a client wants everything until it names something.
    may_be_nameless: bool,
    wildcard: bool,
    /// It has asked for everything and not heard yet: it is answered even if there is nothing, or
    /// Envoy waits 15 s before it goes on to the next type.
    unanswered: bool,
    names: BTreeSet<String>,
    /// What the client was told last. Bounded by what it asked for.
    told: BTreeMap<String, Told>,
    /// With whole deliveries: what the last one held. What is gone has to be said again, as it was,
    /// until everything that replaces it is in use.
    delivered: Resources,
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
    added: Vec<Telling>,
    removed: Vec<String>,
}

/// A resource that a client was sent and has not acknowledged yet.
#[derive(Debug)]
struct Telling {
    name: String,
    version: String,
    patched: bool,
}

impl Telling {
    fn of(sent: &Sent) -> Self {
        Self {
            name: sent.name.clone(),
            version: sent.resource.version.clone(),
            patched: sent.patch.is_some(),
        }
    }
}

/// What is to be sent, sorted.
#[derive(Debug, Default)]
struct Plan {
    add: Vec<String>,
    remove: Vec<String>,
}

impl Subscription {
    pub(super) fn new(delivery: Delivery) -> Self {
        Self {
            delivery,
            requested: false,
            may_be_nameless: true,
            wildcard: false,
            unanswered: false,
            names: BTreeSet::new(),
            told: BTreeMap::new(),
            delivered: Resources::new(),
            in_flight: None,
            acked: BTreeMap::new(),
            rejected: BTreeMap::new(),
            planned_for: None,
            plan: Plan::default(),
            stale: false,
        }
    }

    /// Takes a request: a change of the subscription, an answer to a response, or both.
    pub(super) fn receive(&mut self, request: Request) {
        self.answered(&request.nonce, request.error_detail.as_ref());
        let first = !std::mem::replace(&mut self.requested, true);
        let narrowed = match request.interest {
            Interest::Changed { subscribe, unsubscribe } => {
                // An old way to say `*`, only in the first request of a type.
                if first && subscribe.is_empty() && request.nonce.is_empty() {
                    self.subscribe_to_all();
                }
                self.change(subscribe, unsubscribe)
            }
            Interest::Names(names) => self.replace(names),
        };
        if first {
            for (name, version) in request.held {
                self.acked.insert(name.clone(), version.clone());
                self.told.insert(name, Told::Version(version));
            }
        }
        if first || narrowed {
            self.stale = true;
            self.forget_unwanted();
        }
    }

    /// Whether the client wants less than before.
    fn change(&mut self, subscribe: Vec<String>, unsubscribe: Vec<String>) -> bool {
        for name in subscribe {
            self.stale = true;
            if name == "*" {
                self.subscribe_to_all();
            } else {
                // Who asks again is told again, whatever it had.
                self.told.remove(&name);
                self.names.insert(name);
            }
        }
        let narrowed = !unsubscribe.is_empty();
        for name in unsubscribe {
            if name == "*" {
                self.unsubscribe_from_all();
            } else {
                self.names.remove(&name);
            }
        }
        narrowed
    }

    /// Whether the client wants less than before. A request with an old nonce counts as well: requests
    /// come in order, so its names are the newest there are.
    fn replace(&mut self, names: Vec<String>) -> bool {
        let mut names: BTreeSet<String> = names.into_iter().collect();
        // Without a name it wants everything, as long as it has never named anything.
        let everything = names.remove("*") || (self.may_be_nameless && names.is_empty());
        self.may_be_nameless &= everything && names.is_empty();
        if names == self.names && everything == self.wildcard {
            return false;
        }
        self.stale = true;
        // In a whole delivery what is missing is known to be missing; in others it cannot be told.
        self.unanswered |= self.delivery == Delivery::Whole && !names.is_subset(&self.names);
        match (everything, self.wildcard) {
            (true, false) => self.subscribe_to_all(),
            (false, true) => self.unsubscribe_from_all(),
            _ => {}
        }
        self.names = names;
        true
    }

    fn subscribe_to_all(&mut self) {
        self.wildcard = true;
        self.unanswered = true;
    }

    fn unsubscribe_from_all(&mut self) {
        self.wildcard = false;
        self.unanswered = false;
    }

    /// The client needs this resource again although it has not changed.
    pub(super) fn tell_again(&mut self, name: &str) {
        self.stale |= self.told.remove(name).is_some();
    }

    fn forget_unwanted(&mut self) {
        if self.wildcard {
            return;
        }
        self.told.retain(|name, _| self.names.contains(name));
        self.delivered.retain(|name, _| self.names.contains(name));
        self.acked.retain(|name, _| self.names.contains(name));
        self.rejected.retain(|name, _| self.names.contains(name));
    }

    fn answered(&mut self, nonce: &str, error_detail: Option<&Status>) {
        // An answer to anything but the last response says nothing new.
        let Some(response) = self.in_flight.take_if(|response| response.nonce == nonce) else { return };
        for name in &response.removed {
            self.acked.remove(name);
            self.rejected.remove(name);
        }
        let mut refused = match error_detail {
            Some(status) => {
                rejection::by_resource(status, response.added.iter().map(|telling| telling.name.as_str()))
            }
            None => BTreeMap::new(),
        };
        for Telling { name, version, patched } in response.added {
            // It may have unsubscribed in the meantime.
            if !self.wants(&name) {
                continue;
            }
            match refused.remove(&name) {
                Some(message) => {
                    // Nothing but the whole tells whether it was the patch that did not fit.
                    if patched {
                        self.tell_again(&name);
                    }
                    self.rejected.insert(name, Nack { version, message });
                }
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
        match self.delivery {
            Delivery::Differences => {}
            // A name that never was is no reason to send everything once more.
            Delivery::Whole => self.plan.remove.retain(|name| self.delivered.contains_key(name)),
            Delivery::Parts => drop(self.forget_removed()),
        }
    }

    /// Whether there are additions, or the news that there are none.
    pub(super) fn has_additions(&self) -> bool {
        !self.plan.add.is_empty() || self.unanswered
    }

    /// What is to be added or changed.
    pub(super) fn additions(&self) -> impl Iterator<Item = (&str, &Resource)> {
        let served = self.planned_for.iter().flat_map(|served| {
            self.plan.add.iter().map(|name| (name, served.get(name).expect("planned from this set")))
        });
        served.map(|(name, resource)| (name.as_str(), &**resource))
    }

    pub(super) fn has_removals(&self) -> bool {
        !self.plan.remove.is_empty()
    }

    /// The next additions: at least one if there is any, at most as many as fit into `limit` bytes unless
    /// the delivery is whole. With `patches`, what the client has the version before of is sent as one.
    pub(super) fn next_additions(&mut self, nonce: String, limit: usize, patches: bool) -> Content {
        let served = self.planned_for.clone().unwrap_or_default();
        let mut resources = Vec::new();
        let mut bytes = 0;
        for name in &self.plan.add {
            let resource = served.get(name).expect("planned from this set").clone();
            let patch =
                self.holds(name).filter(|_| patches).and_then(|version| resource.patch_of(version)).cloned();
            let sent = Sent { name: name.clone(), resource, patch };
            bytes += sent.wire_bytes();
            if bytes > limit && !resources.is_empty() && self.delivery != Delivery::Whole {
                break;
            }
            resources.push(sent);
        }
        self.plan.add.drain(..resources.len());
        self.unanswered = false;
        for Sent { name, resource, .. } in &resources {
            self.told.insert(name.clone(), Told::Version(resource.version.clone()));
        }
        if self.delivery == Delivery::Whole {
            self.delivered.extend(resources.into_iter().map(|sent| (sent.name, sent.resource)));
            return self.deliver_whole(nonce, Vec::new());
        }
        let added = resources.iter().map(Telling::of).collect();
        self.in_flight = Some(InFlight { nonce, added, removed: Vec::new() });
        Content { resources, removed: Vec::new() }
    }

    /// The version that the client has for certain: the last that it was told, and it took that.
    fn holds(&self, name: &str) -> Option<&str> {
        let acked = self.acked.get(name)?;
        matches!(self.told.get(name), Some(Told::Version(told)) if told == acked).then_some(acked)
    }

    /// All removals: they are names only, or a delivery of everything else.
    pub(super) fn next_removals(&mut self, nonce: String) -> Content {
        let removed = self.forget_removed();
        if self.delivery == Delivery::Whole {
            removed.iter().for_each(|name| drop(self.delivered.remove(name)));
            return self.deliver_whole(nonce, removed);
        }
        self.in_flight = Some(InFlight { nonce, added: Vec::new(), removed: removed.clone() });
        Content { resources: Vec::new(), removed }
    }

    fn forget_removed(&mut self) -> Vec<String> {
        let removed = std::mem::take(&mut self.plan.remove);
        for name in &removed {
            if self.names.contains(name) {
                self.told.insert(name.clone(), Told::Missing);
            } else {
                self.told.remove(name);
            }
            if self.delivery == Delivery::Parts {
                self.acked.remove(name);
                self.rejected.remove(name);
            }
        }
        removed
    }

    /// Everything that the client should have now. A refusal without names can only be about what the
    /// client had not accepted yet.
    fn deliver_whole(&mut self, nonce: String, removed: Vec<String>) -> Content {
        let whole = |(name, resource): (&String, &Arc<Resource>)| Sent {
            name: name.clone(),
            resource: resource.clone(),
            patch: None,
        };
        let resources: Vec<Sent> = self.delivered.iter().map(whole).collect();
        let added = resources
            .iter()
            .filter(|sent| self.acked.get(&sent.name) != Some(&sent.resource.version))
            .map(Telling::of)
            .collect();
        self.in_flight = Some(InFlight { nonce, added, removed });
        Content { resources, removed: Vec::new() }
    }

    /// Name and version of all that the client holds once it has accepted everything it was told.
    pub(super) fn told(&self) -> impl Iterator<Item = (&str, &str)> {
        self.told.iter().filter_map(|(name, told)| match told {
            Told::Version(version) => Some((name.as_str(), version.as_str())),
            Told::Missing => None,
        })
    }
}
