//! Maps in memory, for tests of control code and for agents that run without eBPF.

use std::collections::BTreeMap;
use std::fmt::Debug;

use mesh_ebpf_abi::{
    Addr, BackendValue, Counter, DirectFlowKey, DirectFlowValue, ProxyConfig, ReverseKey, ReverseValue,
    ServiceKey, ServiceValue, SlotKey,
};

use crate::dump::{MapsDump, by_name, sorted};
use crate::layout::{layouts, names};
use crate::{LoadBalancerMaps, MapError, MapTable};

/// The same maps with no kernel: as large as the real ones, full when those are, empty at the start.
#[derive(Clone, Debug)]
pub struct MemoryMaps {
    services: MemoryTable<ServiceKey, ServiceValue>,
    slots: MemoryTable<SlotKey, u32>,
    backends: MemoryTable<u32, BackendValue>,
    sock_reverse: MemoryTable<ReverseKey, ReverseValue>,
    direct_flows: MemoryTable<DirectFlowKey, DirectFlowValue>,
    node_addresses: MemoryTable<Addr, u32>,
    config: ProxyConfig,
    counters: BTreeMap<Counter, u64>,
}

impl MemoryMaps {
    /// Empty maps.
    pub fn new() -> Self {
        Self {
            services: MemoryTable::new(names::SERVICES),
            slots: MemoryTable::new(names::SLOTS),
            backends: MemoryTable::new(names::BACKENDS),
            sock_reverse: MemoryTable::new(names::SOCK_REVERSE),
            direct_flows: MemoryTable::new(names::DIRECT_FLOWS),
            node_addresses: MemoryTable::new(names::NODE_ADDRS),
            config: ProxyConfig::default(),
            counters: BTreeMap::new(),
        }
    }

    /// Lets the maps hold so many entries only, to test what happens when they are full.
    #[must_use]
    pub fn with_capacities(mut self, services: u32, slots: u32, backends: u32) -> Self {
        self.services.capacity = services;
        self.slots.capacity = slots;
        self.backends.capacity = backends;
        self
    }

    /// Plays the part of the programs: raises a counter.
    pub fn count(&mut self, counter: Counter, by: u64) {
        *self.counters.entry(counter).or_default() += by;
    }
}

impl Default for MemoryMaps {
    fn default() -> Self {
        Self::new()
    }
}

impl LoadBalancerMaps for MemoryMaps {
    fn services(&mut self) -> &mut dyn MapTable<ServiceKey, ServiceValue> {
        &mut self.services
    }

    fn slots(&mut self) -> &mut dyn MapTable<SlotKey, u32> {
        &mut self.slots
    }

    fn backends(&mut self) -> &mut dyn MapTable<u32, BackendValue> {
        &mut self.backends
    }

    fn sock_reverse(&mut self) -> &mut dyn MapTable<ReverseKey, ReverseValue> {
        &mut self.sock_reverse
    }

    fn direct_flows(&mut self) -> &mut dyn MapTable<DirectFlowKey, DirectFlowValue> {
        &mut self.direct_flows
    }

    fn node_addresses(&mut self) -> &mut dyn MapTable<Addr, u32> {
        &mut self.node_addresses
    }

    fn proxy_config(&self) -> Result<ProxyConfig, MapError> {
        Ok(self.config)
    }

    fn set_proxy_config(&mut self, config: ProxyConfig) -> Result<(), MapError> {
        self.config = config;
        Ok(())
    }

    fn counters(&self) -> Result<Vec<(Counter, u64)>, MapError> {
        Ok(Counter::ALL
            .iter()
            .map(|counter| (*counter, self.counters.get(counter).copied().unwrap_or(0)))
            .collect())
    }

    fn dump(&self) -> Result<MapsDump, MapError> {
        Ok(MapsDump {
            config: self.config,
            listeners: Vec::new(),
            services: sorted(self.services.entries()?),
            slots: sorted(self.slots.entries()?),
            backends: sorted(self.backends.entries()?),
            sock_reverse: sorted(self.sock_reverse.entries()?),
            direct_flows: sorted(self.direct_flows.entries()?),
            node_addresses: self.node_addresses.entries.keys().copied().collect(),
            counters: by_name(self.counters()?),
        })
    }
}

#[derive(Clone, Debug)]
struct MemoryTable<K, V> {
    name: &'static str,
    capacity: u32,
    entries: BTreeMap<K, V>,
}

impl<K: Ord, V> MemoryTable<K, V> {
    fn new(name: &'static str) -> Self {
        let layout = layouts().iter().find(|layout| layout.name == name);
        let layout = layout.expect("names and layouts come from one list");
        Self { name, capacity: layout.max_entries, entries: BTreeMap::new() }
    }
}

impl<K: Ord + Copy + Debug, V: Copy> MapTable<K, V> for MemoryTable<K, V> {
    fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        Ok(self.entries.get(key).copied())
    }

    fn insert(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        if !self.entries.contains_key(key) && self.entries.len() >= self.capacity as usize {
            return Err(MapError::Full { map: self.name, entries: self.capacity, key: format!("{key:?}") });
        }
        self.entries.insert(*key, *value);
        Ok(())
    }

    fn remove(&mut self, key: &K) -> Result<bool, MapError> {
        Ok(self.entries.remove(key).is_some())
    }

    fn entries(&self) -> Result<Vec<(K, V)>, MapError> {
        Ok(self.entries.iter().map(|(key, value)| (*key, *value)).collect())
    }
}

#[cfg(test)]
mod tests;
