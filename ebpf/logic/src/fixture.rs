//! Maps for tests.

extern crate std;

use core::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use mesh_ebpf_abi::{Addr, BackendValue, DirectFlowKey, DirectFlowValue, ServiceKey, ServiceValue, SlotKey};

use crate::maps::{DatapathMaps, DirectFlows};

#[derive(Default)]
pub(crate) struct TestMaps {
    pub(crate) services: BTreeMap<ServiceKey, ServiceValue>,
    pub(crate) slots: BTreeMap<SlotKey, u32>,
    pub(crate) backends: BTreeMap<u32, BackendValue>,
    pub(crate) threads: u32,
    pub(crate) own: BTreeSet<Addr>,
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

    fn is_node_address(&self, address: &Addr) -> bool {
        self.own.contains(address)
    }

    fn proxy_threads(&self) -> u32 {
        self.threads
    }
}

/// Direct flows with a clock that stands still until told otherwise.
pub(crate) struct TestFlows {
    entries: RefCell<BTreeMap<DirectFlowKey, DirectFlowValue>>,
    clock: Cell<u64>,
    writes: Cell<u32>,
}

impl Default for TestFlows {
    fn default() -> Self {
        Self { entries: RefCell::default(), clock: Cell::new(1), writes: Cell::new(0) }
    }
}

impl TestFlows {
    pub(crate) fn wait(&self, nanoseconds: u64) {
        self.clock.set(self.clock.get() + nanoseconds);
    }

    pub(crate) fn clock(&self) -> u64 {
        self.clock.get()
    }

    pub(crate) fn writes(&self) -> u32 {
        self.writes.get()
    }

    pub(crate) fn put(&self, flow: DirectFlowKey, value: DirectFlowValue) {
        self.entries.borrow_mut().insert(flow, value);
    }
}

impl DirectFlows for TestFlows {
    fn get(&self, flow: &DirectFlowKey) -> Option<DirectFlowValue> {
        self.entries.borrow().get(flow).copied()
    }

    fn set(&self, flow: &DirectFlowKey, value: DirectFlowValue) {
        self.writes.set(self.writes.get() + 1);
        self.put(*flow, value);
    }

    fn remove(&self, flow: &DirectFlowKey) {
        self.entries.borrow_mut().remove(flow);
    }

    fn now(&self) -> u64 {
        self.clock.get()
    }
}
