//! Messages to JSON.

use prost::Message;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::Value;

use super::EncodeError;
use crate::{Any, TypeUrl, any, descriptors};

/// Prints a message without `@type`, secrets included. Cost: two decodings and one encoding.
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
/// An unknown type or malformed bytes, here or in an `Any` inside.
pub fn encode_any(any: &Any) -> Result<Value, EncodeError> {
    let type_url = any.type_url.clone();
    let name = descriptors::full_name(&type_url);
    let Some(descriptor) = descriptors::message(name) else {
        return Err(EncodeError::UnknownType { type_url });
    };
    if let Err(source) = DynamicMessage::decode(descriptor, any.value.as_slice()) {
        return Err(EncodeError::Malformed { type_url, source });
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
