//! Messages to JSON.

use prost::Message;
use prost_reflect::{self as reflect, DynamicMessage, ReflectMessage, SerializeOptions};
use serde::ser::Error as _;
use serde_json::Value;

use super::EncodeError;
use crate::{Any, TypeUrl, any, descriptors};

/// As prost limits one message. What is nested in `Any`s is decoded one by one, so nobody else counts their
/// levels, and printing is recursive.
const MAX_DEPTH: usize = 100;

/// Prints a message without `@type`, secrets included. Cost: three decodings and one encoding.
///
/// # Errors
/// An `Any` inside it that is unknown or malformed.
pub fn encode<M: TypeUrl>(message: &M) -> Result<Value, EncodeError> {
    let any = any(message);
    let mut value = encode_any(&any)?;
    if let Value::Object(fields) = &mut value {
        fields.remove("@type");
        // The well-known types print as `{"@type": .., "value": ..}` in an `Any`.
        if descriptors::full_name(&any.type_url).starts_with("google.protobuf.")
            && let Some(inner) = fields.remove("value")
        {
            return Ok(inner);
        }
    }
    Ok(value)
}

/// Prints what an `Any` holds, with `@type`, secrets included.
///
/// # Errors
/// An unknown type, malformed bytes or too many levels, here or in an `Any` inside.
pub fn encode_any(any: &Any) -> Result<Value, EncodeError> {
    let type_url = any.type_url.clone();
    let name = descriptors::full_name(&type_url);
    let Some(descriptor) = descriptors::message(name) else {
        return Err(EncodeError::UnknownType { type_url });
    };
    match DynamicMessage::decode(descriptor, any.value.as_slice()) {
        Err(source) => return Err(EncodeError::Malformed { type_url, source }),
        Ok(message) if is_deeper(&message, MAX_DEPTH) => {
            let source = serde_json::Error::custom(format_args!("nested deeper than {MAX_DEPTH} levels"));
            return Err(EncodeError::NoJsonForm { type_url, source });
        }
        Ok(_) => {}
    }
    let wrapped =
        DynamicMessage::decode(descriptors::any(), any.encode_to_vec().as_slice()).expect("an Any is an Any");
    wrapped
        .serialize_with_options(
            serde_json::value::Serializer,
            &SerializeOptions::new().use_proto_field_name(true),
        )
        .map_err(|source| EncodeError::NoJsonForm { type_url, source })
}

/// Whether a message, with what its `Any`s hold, has more levels than this. Looks no deeper itself.
fn is_deeper(message: &DynamicMessage, levels: usize) -> bool {
    let Some(levels) = levels.checked_sub(1) else { return true };
    if let Some(held) = held(message) {
        return is_deeper(&held, levels);
    }
    let value_is_deeper = |value: &reflect::Value| match value {
        reflect::Value::Message(inner) => is_deeper(inner, levels),
        _ => false,
    };
    message.fields().any(|(_, value)| match value {
        reflect::Value::List(items) => items.iter().any(value_is_deeper),
        reflect::Value::Map(entries) => entries.values().any(value_is_deeper),
        other => value_is_deeper(other),
    })
}

/// What an `Any` holds, where that is known and whole.
fn held(message: &DynamicMessage) -> Option<DynamicMessage> {
    if message.descriptor().full_name() != "google.protobuf.Any" {
        return None;
    }
    let any: Any = message.transcode_to().ok()?;
    let descriptor = descriptors::message(descriptors::full_name(&any.type_url))?;
    DynamicMessage::decode(descriptor, any.value.as_slice()).ok()
}
