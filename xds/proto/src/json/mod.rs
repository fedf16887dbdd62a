//! proto3 JSON and YAML, as Envoy's users write them, to messages and back.
//!
//! Both directions go through descriptors: JSON becomes a dynamic message, its bytes become
//! envoy-types' struct. Field names may be given as in the .proto files or in camel case; they are
//! printed as in the .proto files, as Envoy's own config dump does. An `Any` is an object with
//! `@type`, nested at will. Unknown fields, unknown types and unknown enum values are errors.
//!
//! What is printed here includes private keys; whatever a person or a log may see goes through
//! [`crate::redact`].
//!
//! Follows the [ProtoJSON mapping](https://protobuf.dev/programming-guides/json/).

mod decode;
mod encode;
mod error;
pub(crate) mod walk;

pub use decode::{decode, decode_any, decode_any_value, decode_any_yaml, decode_value};
pub use encode::{encode, encode_any};
pub use error::{EncodeError, JsonError};

#[cfg(test)]
mod tests;
