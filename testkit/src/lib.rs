//! Harnesses that tests and the demo share: network namespaces, a node with pods and an outside client, an
//! echo backend, an HTTP client, certificates, traffic that is counted.
//!
//! In: what a test asks for. Out: real sockets in real namespaces, taken down when dropped, and after a
//! crash by the next one ([`namespace::sweep`]). Start with [`topology`]. Threads: one for each
//! [`echo::Echo`], [`flow::Flow`] and [`traffic::Traffic`]; namespaces are entered on threads made for one call.

pub mod api_server;
pub mod certificate;
pub mod cutter;
pub mod echo;
pub mod envoy;
pub mod flow;
pub mod http;
pub mod ledger;
pub mod namespace;
pub mod process;
pub mod topology;
pub mod traffic;
pub mod wait;
