//! A picture of all maps, for people.

use std::collections::BTreeMap;

use mesh_ebpf_abi::{
    Addr, BackendValue, Counter, DirectFlowKey, DirectFlowValue, ProxyConfig, ReverseKey, ReverseValue,
    ServiceKey, ServiceValue, SlotKey,
};
use serde::Serialize;

/// All entries of all maps, sorted. Written out, never read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapsDump {
    /// What changes while programs stay loaded.
    pub config: ProxyConfig,
    /// Indices of the listeners map that hold a socket.
    pub listeners: Vec<u32>,
    /// Addresses that clients dial.
    pub services: Vec<Entry<ServiceKey, ServiceValue>>,
    /// Backend identifiers by service and slot.
    pub slots: Vec<Entry<SlotKey, u32>>,
    /// Backends by identifier.
    pub backends: Vec<Entry<u32, BackendValue>>,
    /// What sockets dialled.
    pub sock_reverse: Vec<Entry<ReverseKey, ReverseValue>>,
    /// Pods' own connections on ports that the proxy borrows.
    pub direct_flows: Vec<Entry<DirectFlowKey, DirectFlowValue>>,
    /// The node's own addresses.
    pub node_addresses: Vec<Addr>,
    /// Counters by name; all of them, zeros too.
    pub counters: BTreeMap<&'static str, u64>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Entry<K, V> {
    /// Key.
    pub key: K,
    /// Value.
    pub value: V,
}

pub(crate) fn sorted<K: Ord, V: Ord>(entries: Vec<(K, V)>) -> Vec<Entry<K, V>> {
    let mut entries: Vec<_> = entries.into_iter().map(|(key, value)| Entry { key, value }).collect();
    entries.sort_unstable();
    entries
}

pub(crate) fn by_name(counters: Vec<(Counter, u64)>) -> BTreeMap<&'static str, u64> {
    counters.into_iter().map(|(counter, value)| (counter.name(), value)).collect()
}
