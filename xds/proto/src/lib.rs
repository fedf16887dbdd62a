//! Envoy's messages, and their JSON.
//!
//! The one crate that names envoy-types: everybody else takes the messages from the modules here,
//! one short name for each protobuf package in use (listed in `messages`).
//!
//! **In**: protobuf bytes, proto3 JSON or YAML with `@type`. **Out**: Envoy's structs, `Any`, JSON.
//! **Start reading** at [`TypeUrl`]. **Tasks**: none.

mod canonical;
mod descriptors;
mod entries;
mod fields;
pub mod json;
mod messages;
mod patch;
pub mod redact;
mod type_url;

pub use canonical::{canonical, is_plain};
pub use entries::{resource_prefix, take_entries};
pub use fields::{Difference, Field, Fields};
pub use messages::{
    Any, BoolValue, BytesValue, DoubleValue, Duration, Empty, ListValue, StringValue, Struct, Timestamp,
    UInt32Value, UInt64Value, Value, access_log, cluster, core, cors, direct_response, discovery, endpoint,
    envoy_type, ext_authz, file_access_log, formatter, hcm, header_mutation, http_inspector,
    http_protocol_options, listener, load_balancing, local_rate_limit, matcher, metadata_key, mutation_rules,
    original_dst, original_src, proxy_protocol, proxy_protocol_upstream, raw_buffer, rbac, rbac_filter,
    route, router, rpc, stream_access_log, struct_value, tcp_proxy, tls, tls_inspector, trace, tracing_tag,
};
pub use patch::{Patch, Piece, TAKES_PATCHES};
pub use prost::{Message, Name};
pub use type_url::{DecodeError, TypeUrl, any, decode, type_urls};
