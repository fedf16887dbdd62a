//! Every map, load-time constant, counter, event and drop reason that kernel programs and user space share.
//!
//! In: nothing. Out: plain types with a fixed layout, and two lists ([`for_each_map!`],
//! [`for_each_constant!`]) that both sides turn into their own definitions, so that a mismatch cannot be
//! written. Start with [`maps`], then [`lb`]. No allocation, no task, no dependency on aya.
//!
//! Byte order is in the type: [`Be16`] holds network order and gives host order through its getter only.
//! All addresses are 16 bytes, IPv4 as v4-mapped ([`Addr`]), so one map serves both families.
#![no_std]

pub mod constants;
pub mod counters;
pub mod direct_flow;
pub mod events;
pub mod lb;
pub mod maps;
pub mod nat;
pub mod net;
pub mod reasons;

pub use counters::Counter;
pub use direct_flow::{DirectFlowKey, DirectFlowValue};
pub use lb::{
    BackendState, BackendValue, Protocol, ProxyConfig, ReverseKey, ReverseValue, ServiceFlags, ServiceKey,
    ServiceValue, SlotKey,
};
pub use nat::{
    FragmentKey, FragmentValue, MasqueradeValue, NatKey, NatValue, NetKey, Scratch, device_flags, net_flags,
};
pub use net::{Addr, Be16, Be32, EndpointValue, Family, PodAddresses};
pub use reasons::DropReason;
