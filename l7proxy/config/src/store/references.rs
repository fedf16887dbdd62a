//! What resources refer to by name, and what nobody refers to any more.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use mesh_xds_proto::type_urls;

use super::{Change, ConfigStore};
use crate::listener::ListenerParts;

/// Types that are subscribed to by name, as far as others refer to them.
pub(super) const BY_NAME: [&str; 3] = [type_urls::ENDPOINT, type_urls::SECRET, type_urls::ROUTE];

impl ConfigStore {
    /// The names of `type_url` that other resources refer to (route configurations, load assignments,
    /// secrets): what to subscribe to. Clusters named by routes are included for CDS, which servers
    /// usually send unasked.
    pub fn wanted(&self, type_url: &str) -> BTreeSet<String> {
        let owned = |name: &Arc<str>| name.to_string();
        match type_url {
            known if BY_NAME.contains(&known) => {
                self.referred_to(known).into_iter().map(str::to_owned).collect()
            }
            type_urls::CLUSTER => {
                let inline = self.listeners.values().flat_map(|parts| &parts.clusters);
                let named = self.snapshot.routes.values().flat_map(|table| table.clusters());
                inline.map(owned).chain(named.map(|name| name.to_string())).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Whether nothing is on its way that resources refer to by name.
    pub fn is_complete(&self) -> bool {
        BY_NAME.into_iter().all(|type_url| {
            self.referred_to(type_url).into_iter().all(|name| self.is_settled(type_url, name))
        })
    }

    /// Whether nothing is on its way that a listener needs for an answer: its certificates, its route tables, the
    /// endpoints that these lead to; of one that hands connections over, what those behind it need. Cost: a look
    /// at each route.
    pub fn is_ready(&self, listener: &str) -> bool {
        let Some(parts) = self.listeners.get(listener) else { return true };
        let behind = self.listeners.values().filter(|other| parts.use_original_dst && !other.bind);
        std::iter::once(parts).chain(behind).all(|parts| {
            let tables = parts.route_names.iter().filter_map(|name| self.snapshot.routes(name));
            let mut endpoints = tables
                .flat_map(|table| table.clusters())
                .filter_map(|cluster| self.clusters.get(&cluster)?.settings.eds_name.clone());
            self.has_all_of(parts) && endpoints.all(|name| self.is_settled(type_urls::ENDPOINT, &name))
        })
    }

    /// The listeners that serve as they were, because parts of what they changed to have not come.
    pub fn outgoing(&self) -> impl Iterator<Item = &Arc<str>> {
        self.outgoing.keys()
    }

    /// Lets one of [`Self::outgoing`] change all the same.
    pub fn stop_waiting(&mut self, listener: &str) {
        if let Some((name, _)) = self.outgoing.remove_entry(listener) {
            let mut change = Change::of(&self.snapshot);
            change.listeners.insert(name);
            self.finish(change, false);
        }
    }

    /// Takes out the listeners that changed before parts of that had come, and for which all have now.
    pub(super) fn take_complete(&mut self) -> Vec<Arc<str>> {
        let names = self
            .outgoing
            .keys()
            .filter(|name| self.listeners.get(*name).is_none_or(|parts| self.has_all_of(parts)));
        let names: Vec<Arc<str>> = names.cloned().collect();
        for name in &names {
            self.outgoing.remove(name);
        }
        names
    }

    /// Whether only a listener that is about to change refers to this.
    pub(super) fn is_for_outgoing(&self, known: &str, name: &str) -> bool {
        let refers = |parts: &ListenerParts| match known {
            type_urls::SECRET => parts.secrets().any(|secret| **secret == *name),
            type_urls::ROUTE => parts.route_names.contains(name),
            _ => false,
        };
        self.outgoing.values().any(|parts| refers(parts))
            && !self.listeners.values().any(|parts| refers(parts))
    }

    /// Whether nothing is on its way that these refer to.
    pub(super) fn has_all_of(&self, parts: &ListenerParts) -> bool {
        parts.route_names.iter().all(|name| self.is_settled(type_urls::ROUTE, name))
            && parts.secrets().all(|name| self.is_settled(type_urls::SECRET, name))
    }

    /// Whether a resource is held, or there is no use in waiting for it: it was refused, or the server has none.
    fn is_settled(&self, known: &'static str, name: &str) -> bool {
        self.raw.get(known).is_some_and(|held| held.contains_key(name)) || {
            let key = (known, name.to_owned());
            self.refused.contains_key(&key) || self.missing.contains(&key)
        }
    }

    /// Drops the route tables, endpoints and certificates that nothing refers to any more: their server, told
    /// that they are not wanted, does not say when they go, and keys must not stay for ever. For when a change
    /// is complete, since parts of one may come in any order. Cost: a look at each name.
    pub fn forget_unwanted(&mut self) {
        let mut change = Change::of(&self.snapshot);
        let mut changed = false;
        for known in BY_NAME {
            let names = self.referred_to(known);
            let held = self.raw.get(known).into_iter().flatten();
            let gone = held.filter(|(name, _)| !names.contains(name.as_str())).map(|(name, _)| name.clone());
            let gone: Vec<String> = gone.collect();
            let refused =
                self.refused.keys().filter(|(of, name)| *of == known && !names.contains(name.as_str()));
            let missing =
                self.missing.iter().filter(|(of, name)| *of == known && !names.contains(name.as_str()));
            let forgotten: Vec<_> = refused.chain(missing).cloned().collect();
            drop(names);
            for key in forgotten {
                self.refused.remove(&key);
                self.missing.remove(&key);
            }
            for name in gone {
                changed = true;
                if let Some(held) = self.raw.get_mut(known) {
                    held.remove(&name);
                }
                self.remove(known, &name, &mut change);
            }
        }
        self.finish(change, changed);
    }

    /// The same names as [`Self::wanted`], of a type of [`BY_NAME`], without a copy of each.
    fn referred_to(&self, type_url: &str) -> HashSet<&str, foldhash::fast::RandomState> {
        let listeners = self.listeners.values().chain(self.outgoing.values());
        match type_url {
            type_urls::ENDPOINT => self.assignment_users.keys().map(|name| &**name).collect(),
            type_urls::SECRET => listeners.flat_map(|parts| parts.secrets()).map(|name| &**name).collect(),
            _ => listeners.flat_map(|parts| &parts.route_names).map(|name| &**name).collect(),
        }
    }
}
