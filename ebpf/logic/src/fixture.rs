//! Maps for tests.

extern crate std;

use std::collections::BTreeMap;

use mesh_ebpf_abi::{Addr, BackendValue, ServiceKey, ServiceValue, SlotKey};

use crate::maps::DatapathMaps;

#[derive(Default)]
pub(crate) struct TestMaps {
    pub(crate) services: BTreeMap<ServiceKey, ServiceValue>,
    pub(crate) slots: BTreeMap<SlotKey, u32>,
    pub(crate) backends: BTreeMap<u32, BackendValue>,
    pub(crate) threads: u32,
}

impl DatapathMaps for TestMaps {
    fn service(&self, key: &ServiceKey) -> Option<ServiceValue> {
        self.services.get(key).copied()
    }

    fn slot(&self, key: &SlotKey) -> Option<u32> {
        self.slots.get(key).copied()
    }

    fn backend(&self, backend: u32) -> Option<BackendValue> {
        self.backends.get(&backend).copied()
    }

    fn is_node_address(&self, _: &Addr) -> bool {
        false
    }

    fn proxy_threads(&self) -> u32 {
        self.threads
    }
}
