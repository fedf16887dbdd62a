//! Harnesses that tests and the demo share: network namespaces, a node with pods and an outside client, an
//! echo backend, an HTTP client, certificates.
//!
//! In: what a test asks for. Out: real sockets in real namespaces, taken down when dropped, and after a
//! crash by the next one ([`namespace::sweep`]). Start with [`topology`]. Threads: one for each
//! [`echo::Echo`]; namespaces are entered on threads made for one call.

pub mod certificate;
pub mod echo;
pub mod envoy;
pub mod http;
pub mod namespace;
pub mod process;
pub mod topology;
pub mod wait;
