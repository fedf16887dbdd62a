//! The decisions of the kernel programs, as plain functions.
//!
//! In: a packet's bytes ([`PacketBytes`]) or a socket call's address, and the maps ([`DatapathMaps`]), both
//! behind traits, so that the same code runs in the kernel, in unit tests and under a fuzzer. Out: a verdict
//! that the program's shell carries out and counts. Start with [`parse`], then [`redirect`] (packets, socket
//! lookup), [`nat`] (pods' packets to the outside), [`origin`] (in whose name a pod speaks), [`frontend`] (packets to
//! Services), [`direct_flow`] (source ports that the proxy borrows) and [`balance`] (socket hooks).
//!
//! Nothing here can panic, allocates, or loops without a constant bound: the verifier would refuse it.
//! Functions are inlined into the programs, because a BPF function takes no structure by value.
#![no_std]

pub mod balance;
pub mod direct_flow;
#[cfg(test)]
mod fixture;
pub mod flow;
pub mod frontend;
pub mod maps;
pub mod nat;
pub mod origin;
pub mod parse;
pub mod redirect;
pub mod rewrite;
pub mod transport;

pub use balance::{Balance, balance};
pub use direct_flow::{BorrowedPorts, Departure};
pub use flow::{FourTuple, flow_hash, pick};
pub use maps::{DatapathMaps, DirectFlows};
pub use nat::{Nat, NatMaps, NatPorts, NatWork, Translation};
pub use origin::{Origin, origin};
pub use parse::{LinkLayer, NotTcp, PacketBytes, TcpFlags, TcpPacket, parse_destination, parse_tcp};
pub use redirect::{Redirect, holds_ends, new_connection, takes_packets};
pub use rewrite::{Covered, End, PacketEdit, one_hop, rewrite};
pub use transport::{Payload, Transport, parse_quoted, parse_transport};
