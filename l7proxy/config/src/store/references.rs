//! What resources refer to by name, and what nobody refers to any more.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use mesh_xds_proto::type_urls;

use super::ConfigStore;
use crate::Snapshot;

/// Types that are subscribed to by name, as far as others refer to them.
const BY_NAME: [&str; 3] = [type_urls::ENDPOINT, type_urls::SECRET, type_urls::ROUTE];

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

    /// Whether everything is there that resources refer to by name.
    pub fn is_complete(&self) -> bool {
        BY_NAME.into_iter().all(|type_url| {
            let held = self.raw.get(type_url);
            self.wanted(type_url).iter().all(|name| held.is_some_and(|held| held.contains_key(name)))
        })
    }

    /// Drops the route tables, endpoints and certificates that nothing refers to any more: their server, told
    /// that they are not wanted, does not say when they go, and keys must not stay for ever. For when a change
    /// is complete, since parts of one may come in any order. Cost: a look at each name.
    pub fn forget_unwanted(&mut self) {
        let mut next = None;
        for known in BY_NAME {
            let names = self.referred_to(known);
            let held = self.raw.get(known).into_iter().flatten();
            let gone = held.filter(|(name, _)| !names.contains(name.as_str())).map(|(name, _)| name.clone());
            let gone: Vec<String> = gone.collect();
            let refused =
                self.refused.keys().filter(|(of, name)| *of == known && !names.contains(name.as_str()));
            let refused: Vec<_> = refused.cloned().collect();
            drop(names);
            for key in refused {
                self.refused.remove(&key);
            }
            for name in gone {
                let next = next.get_or_insert_with(|| Snapshot {
                    revision: self.snapshot.revision + 1,
                    ..Snapshot::clone(&self.snapshot)
                });
                if let Some(held) = self.raw.get_mut(known) {
                    held.remove(&name);
                }
                self.remove(known, &name, next);
            }
        }
        if let Some(next) = next {
            self.snapshot = Arc::new(next);
        }
    }

    /// The same names as [`Self::wanted`], of a type of [`BY_NAME`], without a copy of each.
    fn referred_to(&self, type_url: &str) -> HashSet<&str, foldhash::fast::RandomState> {
        match type_url {
            type_urls::ENDPOINT => self.assignment_users.keys().map(|name| &**name).collect(),
            type_urls::SECRET => {
                self.listeners.values().flat_map(|parts| parts.secrets()).map(|name| &**name).collect()
            }
            _ => self.listeners.values().flat_map(|parts| &parts.route_names).map(|name| &**name).collect(),
        }
    }
}
