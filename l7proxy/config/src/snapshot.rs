//! The compiled configuration at one moment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;

use crate::cluster::Cluster;
use crate::listener::Listener;
use crate::route::RouteTable;

/// Persistent, so that a new snapshot shares all but the changed entries with the one before.
pub(crate) type Shared<K, V> = GenericHashMap<K, V, foldhash::fast::RandomState, DefaultSharedPtr>;

/// Everything the data path needs, immutable. Parts are shared between successive snapshots.
#[derive(Debug, Default, Clone)]
pub struct Snapshot {
    pub(crate) revision: u64,
    pub(crate) listeners: Shared<Arc<str>, Arc<Listener>>,
    pub(crate) by_address: Shared<SocketAddr, Arc<Listener>>,
    pub(crate) routes: Shared<Arc<str>, Arc<RouteTable>>,
    pub(crate) clusters: Shared<Arc<str>, Arc<Cluster>>,
}

impl Snapshot {
    /// Rises with every change. Unique within one [`crate::ConfigStore`].
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// A listener by name. One hash.
    pub fn listener(&self, name: &str) -> Option<&Arc<Listener>> {
        self.listeners.get(name)
    }

    /// The listener that owns an original destination: by address and port, else by port with the
    /// unspecified address. At most two hashes.
    pub fn listener_at(&self, destination: SocketAddr) -> Option<&Arc<Listener>> {
        let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
        self.by_address.get(&destination).or_else(|| {
            let any = match destination.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            self.by_address.get(&SocketAddr::new(any, destination.port()))
        })
    }

    /// A route table by name. One hash.
    pub fn routes(&self, name: &str) -> Option<&Arc<RouteTable>> {
        self.routes.get(name)
    }

    /// A cluster by name. One hash.
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// Whether the listeners are the same as in another snapshot of this store. One comparison of pointers.
    pub fn has_listeners_of(&self, other: &Self) -> bool {
        self.listeners.ptr_eq(&other.listeners)
    }

    /// All listeners, in no order.
    pub fn listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.listeners.values()
    }

    /// All clusters, in no order.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }
}
