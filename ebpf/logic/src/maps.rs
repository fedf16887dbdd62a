//! Map access, as the decisions need it.

use mesh_ebpf_abi::{Addr, BackendValue, DirectFlowKey, DirectFlowValue, ServiceKey, ServiceValue, SlotKey};

/// Read access to the datapath's maps. One lookup a call.
pub trait DatapathMaps {
    /// The services map.
    fn service(&self, key: &ServiceKey) -> Option<ServiceValue>;
    /// The slots map: a backend's identifier.
    fn slot(&self, key: &SlotKey) -> Option<u32>;
    /// The backends map.
    fn backend(&self, backend: u32) -> Option<BackendValue>;
    /// Whether the node owns an address.
    fn is_node_address(&self, address: &Addr) -> bool;
    /// Proxy threads with listeners; 0 without a proxy.
    fn proxy_threads(&self) -> u32;
}

/// The direct flows map, and the clock its values go by. One map operation a call.
pub trait DirectFlows {
    /// A flow's state, if it is known.
    fn get(&self, flow: &DirectFlowKey) -> Option<DirectFlowValue>;
    /// Notes a flow. Best effort: a map under pressure may forget it.
    fn set(&self, flow: &DirectFlowKey, value: DirectFlowValue);
    /// Forgets a flow.
    fn remove(&self, flow: &DirectFlowKey);
    /// Nanoseconds of a clock that never goes back; never 0.
    fn now(&self) -> u64;
}
