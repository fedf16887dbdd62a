//! The last good resources of each type, as received and compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{Bind, NamedResource, Rejected, Snapshot};

/// The bytes given to [`ConfigStore::import`] were not written by [`ConfigStore::export`].
#[derive(Debug, thiserror::Error)]
#[error("saved configuration breaks off or is damaged at byte {offset}")]
pub struct ImportError {
    /// Where reading stopped.
    pub offset: usize,
}

/// Holds the last good version of every resource. Not on the data path.
#[derive(Debug, Default)]
pub struct ConfigStore {
    snapshot: Arc<Snapshot>,
}

impl ConfigStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one delta response. A resource that does not compile keeps its last good version and is
    /// reported; all others are taken. An unknown type refuses all of `upserts`.
    pub fn apply(&mut self, _type_url: &str, _upserts: Vec<NamedResource>, _removed: &[String]) -> Vec<Rejected> {
        Vec::new()
    }

    /// The configuration as compiled now. One reference count.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.clone()
    }

    /// The sockets that the listeners need, sorted.
    pub fn binds(&self) -> Vec<Bind> {
        Vec::new()
    }

    /// The names of `type_url` that other resources refer to (route configurations, load assignments,
    /// secrets): what to subscribe to.
    pub fn wanted(&self, _type_url: &str) -> BTreeSet<String> {
        BTreeSet::new()
    }

    /// Name and version of each resource held, for `initial_resource_versions`.
    pub fn versions(&self, _type_url: &str) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// What is in use in the shape of Envoy's `/config_dump`, keys replaced by `[redacted]`.
    pub fn config_dump(&self) -> serde_json::Value {
        serde_json::json!({ "configs": [] })
    }

    /// The last good resources with their keys, as length-delimited
    /// `envoy.service.discovery.v3.Resource`, dependencies first. For memory only, never for a file.
    pub fn export(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes what [`ConfigStore::export`] gave. Errors when the framing is damaged; what was read before
    /// that stays.
    pub fn import(&mut self, _saved: &[u8]) -> Result<Vec<Rejected>, ImportError> {
        Ok(Vec::new())
    }
}
