//! What is done with hostile bytes, and what has to hold then.
//!
//! **In**: bytes from a fuzzer, or from the kept corpus. **Out**: nothing, or a panic, which is a finding.
//! **Start reading** at [`TARGETS`]; each target is a file and says what it holds against the bytes. **Tasks**:
//! none. `fuzz/bin` makes an executable of each; `tests/it` runs every kept input once.

pub mod bpf_event;
pub mod bpf_maps;
pub mod client_hello;
pub mod direct_flow;
pub mod envoy_json;
pub mod http1;
pub mod http1_response;
pub mod http2;
pub mod packet;
pub mod pipeline;
pub mod proxy_header;
pub mod xds_messages;
pub mod yaml_to_model;

mod endpoint;
mod proxy;
mod trip;

/// What is done with an input; a panic is a finding.
pub type Run = fn(&[u8]);

/// Every target by the name of its executable and of the folder of its corpus.
pub const TARGETS: &[(&str, Run)] = &[
    ("bpf_event", bpf_event::run),
    ("bpf_maps", bpf_maps::run),
    ("client_hello", client_hello::run),
    ("direct_flow", direct_flow::run),
    ("envoy_json", envoy_json::run),
    ("http1", http1::run),
    ("http1_response", http1_response::run),
    ("http2", http2::run),
    ("packet", packet::run),
    ("pipeline", pipeline::run),
    ("proxy_header", proxy_header::run),
    ("xds_messages", xds_messages::run),
    ("yaml_to_model", yaml_to_model::run),
];
