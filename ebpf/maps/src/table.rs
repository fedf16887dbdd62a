//! What control code writes against.

use mesh_ebpf_abi::{
    Addr, BackendValue, Counter, DirectFlowKey, DirectFlowValue, ProxyConfig, ReverseKey, ReverseValue,
    ServiceKey, ServiceValue, SlotKey,
};

use crate::{MapError, MapsDump};

/// A map from `K` to `V`. Each call is one system call, `entries` one or two for each entry.
pub trait MapTable<K, V> {
    /// The value at a key, if there is one.
    fn get(&self, key: &K) -> Result<Option<V>, MapError>;
    /// Adds or replaces an entry; seen by the programs at once.
    fn insert(&mut self, key: &K, value: &V) -> Result<(), MapError>;
    /// Removes an entry; false if there was none.
    fn remove(&mut self, key: &K) -> Result<bool, MapError>;
    /// All entries, in no order. Entries that programs add or evict meanwhile may be missing.
    fn entries(&self) -> Result<Vec<(K, V)>, MapError>;
}

/// The maps that load balancing and redirection are programmed through.
///
/// Order for a change that no packet may see half of: backends, then slots, then the service; for a removal
/// the other way round.
pub trait LoadBalancerMaps: Send {
    /// Addresses that clients dial.
    fn services(&mut self) -> &mut dyn MapTable<ServiceKey, ServiceValue>;
    /// The n-th backend (identifier) of a service.
    fn slots(&mut self) -> &mut dyn MapTable<SlotKey, u32>;
    /// Backends by identifier, never 0.
    fn backends(&mut self) -> &mut dyn MapTable<u32, BackendValue>;
    /// What sockets dialled; written by the programs.
    fn sock_reverse(&mut self) -> &mut dyn MapTable<ReverseKey, ReverseValue>;
    /// Pods' own connections on ports that the proxy borrows; written by the programs.
    fn direct_flows(&mut self) -> &mut dyn MapTable<DirectFlowKey, DirectFlowValue>;
    /// The node's own addresses; the value is unused.
    fn node_addresses(&mut self) -> &mut dyn MapTable<Addr, u32>;
    /// What changes while programs stay loaded.
    fn proxy_config(&self) -> Result<ProxyConfig, MapError>;
    /// Replaces it.
    fn set_proxy_config(&mut self, config: ProxyConfig) -> Result<(), MapError>;
    /// All counters, summed over processors, by number.
    fn counters(&self) -> Result<Vec<(Counter, u64)>, MapError>;
    /// A sorted picture of everything, for people.
    fn dump(&self) -> Result<MapsDump, MapError>;
}
