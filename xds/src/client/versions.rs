//! What the sink holds, by type: kept over reconnects, so that the server sends only the difference.

use std::collections::{BTreeMap, HashMap};

use super::Subscription;

/// A request larger than what servers accept would never get through. Versions beyond this are left
/// out, and their resources are sent once more than needed.
const MAX_BYTES_PER_TYPE: usize = 3 << 20;

/// Versions of the resources in use.
#[derive(Debug, Default)]
pub(super) struct Versions {
    by_type: BTreeMap<String, BTreeMap<String, String>>,
}

impl Versions {
    pub(super) fn applied(&mut self, type_url: &str, name: String, version: String) {
        match self.by_type.get_mut(type_url) {
            Some(versions) => drop(versions.insert(name, version)),
            None => drop(self.by_type.insert(type_url.to_owned(), BTreeMap::from([(name, version)]))),
        }
    }

    pub(super) fn removed<'a>(&mut self, type_url: &str, names: impl IntoIterator<Item = &'a String>) {
        if let Some(versions) = self.by_type.get_mut(type_url) {
            for name in names {
                versions.remove(name);
            }
        }
    }

    /// Drops what the sink does not want any more, as the server does.
    pub(super) fn narrowed(&mut self, type_url: &str, wanted: &Subscription) {
        if let (Some(versions), Subscription::Names(names)) = (self.by_type.get_mut(type_url), wanted)
            && !names.contains("*")
        {
            versions.retain(|name, _| names.contains(name));
        }
    }

    /// For the first request of a stream.
    pub(super) fn initial(&self, type_url: &str) -> HashMap<String, String> {
        let mut bytes = 0;
        self.by_type
            .get(type_url)
            .into_iter()
            .flatten()
            .take_while(|(name, version)| {
                // Keys and lengths of the map entry and its two strings.
                bytes += name.len() + version.len() + 12;
                bytes <= MAX_BYTES_PER_TYPE
            })
            .map(|(name, version)| (name.clone(), version.clone()))
            .collect()
    }
}
