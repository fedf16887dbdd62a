//! What the server serves: one immutable snapshot after the other.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use mesh_xds_proto::{Any, Message, Patch, TypeUrl, any, canonical, is_plain, type_urls};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

/// All resources that one node should have, by type and name. Sorted, so that equal sets are equal
/// bytes.
#[derive(Clone, Default, PartialEq)]
pub struct ResourceSet {
    types: BTreeMap<String, BTreeMap<String, Any>>,
}

impl ResourceSet {
    /// Puts a resource of the type that its URL says, in place of one of the same name.
    pub fn insert(&mut self, name: impl Into<String>, body: Any) {
        match self.types.get_mut(&body.type_url) {
            Some(resources) => drop(resources.insert(name.into(), body)),
            None => {
                let type_url = body.type_url.clone();
                self.types.insert(type_url, BTreeMap::from([(name.into(), body)]));
            }
        }
    }

    /// Packs and puts a message.
    pub fn insert_message<M: TypeUrl>(&mut self, name: impl Into<String>, message: &M) {
        self.insert(name, any(message));
    }

    /// Type URL, name and body, sorted by type URL and name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &Any)> {
        self.types.iter().flat_map(|(type_url, resources)| {
            resources.iter().map(|(name, body)| (type_url.as_str(), name.as_str(), body))
        })
    }
}

/// Names only: bodies may hold private keys.
impl fmt::Debug for ResourceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.types.iter().map(|(type_url, bodies)| (type_url, bodies.keys()))).finish()
    }
}

/// One resource of a snapshot.
#[derive(Clone, PartialEq)]
pub struct Resource {
    /// 64 bits of SHA-256 over the canonical body, as hex: the same content has the same version,
    /// also after the server was restarted.
    pub version: String,
    /// Canonical: maps sorted.
    pub body: Any,
    /// Whether it is canonical for want of maps, see [`is_plain`].
    plain: bool,
    /// What has changed with this version, where that is little of much.
    patch: Option<Patch>,
}

impl Resource {
    /// Bytes that are worth a patch.
    pub(super) const LEAST_SPARED: usize = 16 * 1024;

    /// What makes this of that version, if it is the one before and a patch is much shorter.
    pub(super) fn patch_of(&self, version: &str) -> Option<&Patch> {
        self.patch.as_ref().filter(|patch| patch.base == version)
    }

    fn patch_between(before: &Self, body: &Any) -> Option<Patch> {
        // Others are not large, or refer to each other.
        if body.type_url != type_urls::ROUTE || body.value.len() < Self::LEAST_SPARED {
            return None;
        }
        let patch = Patch::between(before.version.clone(), &before.body.value, &body.value);
        (patch.encoded_len() + Self::LEAST_SPARED <= body.value.len()).then_some(patch)
    }
}

/// Without the body, which may hold a private key.
impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("version", &self.version)
            .field("type_url", &self.body.type_url)
            .field("bytes", &self.body.value.len())
            .finish()
    }
}

/// The resources of one type by name.
pub type Resources = BTreeMap<String, Arc<Resource>>;

/// What is served at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    revision: u64,
    types: BTreeMap<String, Arc<Resources>>,
}

impl Snapshot {
    /// Counts the publishings that changed something; zero before the first, when the server
    /// answers nobody, because an empty answer would tell a proxy to drop what it has.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The resources of a type; the same pointer as long as none of them changes.
    #[must_use]
    pub fn resources(&self, type_url: &str) -> Option<&Arc<Resources>> {
        self.types.get(type_url)
    }

    /// Type URL, name and resource, sorted; for dumps, through
    /// [`redact`](mesh_xds_proto::redact).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &Resource)> {
        self.types.iter().flat_map(|(type_url, resources)| {
            resources.iter().map(|(name, resource)| (type_url.as_str(), name.as_str(), &**resource))
        })
    }
}

/// What a publishing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The revision now served.
    pub revision: u64,
    /// Resources that are new or have a new version.
    pub changed: usize,
    /// Resources that are gone.
    pub removed: usize,
}

/// The resources that the server serves, written by one owner in whole sets, read by every stream.
/// Clones share it.
#[derive(Debug, Clone)]
pub struct ResourceCache {
    snapshot: Arc<watch::Sender<Arc<Snapshot>>>,
    /// Held while a snapshot is made from the last one, not while it is read.
    publishing: Arc<Mutex<()>>,
}

impl Default for ResourceCache {
    fn default() -> Self {
        Self { snapshot: Arc::new(watch::Sender::new(Arc::default())), publishing: Arc::default() }
    }
}

impl ResourceCache {
    /// Serves this set from now on: streams send what differs. All types change in one step.
    ///
    /// The first call counts as a change even if the set is empty: it says that the owner knows
    /// what should be served. Cost: a comparison of all bytes, and a hash of each
    /// resource that differs.
    pub fn publish(&self, set: ResourceSet) -> Published {
        let _one_at_a_time = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.snapshot();
        let mut published = Published { revision: last.revision, changed: 0, removed: 0 };
        let mut types = BTreeMap::new();
        for (type_url, bodies) in set.types {
            let old = last.types.get(&type_url);
            let resources = next_resources(old, bodies, &mut published);
            types.insert(type_url, resources);
        }
        for (type_url, resources) in &last.types {
            if !types.contains_key(type_url) {
                published.removed += resources.len();
            }
        }
        if published.changed + published.removed > 0 || last.revision == 0 {
            published.revision += 1;
            self.snapshot.send_replace(Arc::new(Snapshot { revision: published.revision, types }));
        }
        published
    }

    /// What is served now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }
}

/// The resources of one type, sharing what is the same as before.
fn next_resources(
    old: Option<&Arc<Resources>>,
    bodies: BTreeMap<String, Any>,
    published: &mut Published,
) -> Arc<Resources> {
    let mut changed = 0;
    let mut kept = 0;
    let mut resources = Resources::new();
    for (name, body) in bodies {
        let before = old.and_then(|old| old.get(&name));
        let resource = next_resource(before, body);
        kept += usize::from(before.is_some());
        changed += usize::from(before.is_none_or(|before| !Arc::ptr_eq(before, &resource)));
        resources.insert(name, resource);
    }
    let removed = old.map_or(0, |old| old.len() - kept);
    published.changed += changed;
    published.removed += removed;
    match old {
        Some(old) if changed + removed == 0 => old.clone(),
        _ => Arc::new(resources),
    }
}

fn next_resource(before: Option<&Arc<Resource>>, body: Any) -> Arc<Resource> {
    if let Some(before) = before.filter(|before| before.body == body) {
        return before.clone();
    }
    let known = before.filter(|before| before.plain).map(|before| &before.body);
    let plain = is_plain(&body, known);
    let body = if plain { body } else { canonical(&body) };
    let version = version(&body);
    match before.filter(|before| before.version == version) {
        Some(before) => before.clone(),
        None => {
            let patch = before.and_then(|before| Resource::patch_between(before, &body));
            Arc::new(Resource { version, body, plain, patch })
        }
    }
}

fn version(body: &Any) -> String {
    Sha256::digest(&body.value).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
