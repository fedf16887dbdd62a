//! JSON and YAML to messages.

use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde::de::{DeserializeSeed, Deserializer};
use serde_json::Value;
use serde_path_to_error::{Path, Track};

use super::{JsonError, walk};
use crate::{Any, TypeUrl, descriptors};

/// As prost limits messages. A tree can come from anywhere, and reading it is recursive.
const MAX_DEPTH: usize = 100;

/// Reads JSON with `@type`.
///
/// # Errors
/// Malformed JSON, an unknown field, type or enum value, a value of the wrong form. The error has
/// the path and the place in the text. Reading the text again as a tree, for the full path, is paid
/// only then.
pub fn decode_any(text: &str) -> Result<Any, JsonError> {
    let message = from_text(descriptors::any(), text)?;
    Ok(Any::decode(message.encode_to_vec().as_slice()).expect("a dynamic Any is an Any"))
}

/// Reads a JSON tree with `@type`.
///
/// # Errors
/// As [`decode_any`], with the path and no place.
pub fn decode_any_value(value: &Value) -> Result<Any, JsonError> {
    let message = from_tree(&descriptors::any(), value)?;
    Ok(Any::decode(message.encode_to_vec().as_slice()).expect("a dynamic Any is an Any"))
}

/// Reads one YAML document with `@type`.
///
/// # Errors
/// Malformed YAML has a place; everything else is as in [`decode_any_value`].
pub fn decode_any_yaml(text: &str) -> Result<Any, JsonError> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| JsonError {
        path: String::new(),
        place: error
            .location()
            .and_then(|at| Some((usize::try_from(at.line()).ok()?, usize::try_from(at.column()).ok()?))),
        message: "malformed YAML".to_owned(),
    })?;
    decode_any_value(&value)
}

/// Reads JSON of a message whose type is known, without `@type`.
///
/// # Errors
/// As [`decode_any`].
pub fn decode<M: TypeUrl>(text: &str) -> Result<M, JsonError> {
    typed(&from_text(descriptor_of::<M>()?, text)?)
}

/// Reads a JSON tree of a message whose type is known, without `@type`.
///
/// # Errors
/// As [`decode_any_value`].
pub fn decode_value<M: TypeUrl>(value: &Value) -> Result<M, JsonError> {
    typed(&from_tree(&descriptor_of::<M>()?, value)?)
}

fn descriptor_of<M: TypeUrl>() -> Result<MessageDescriptor, JsonError> {
    let name = M::full_name();
    descriptors::message(&name).ok_or_else(|| JsonError {
        path: String::new(),
        place: None,
        message: format!("{name} is not a message of this Envoy release"),
    })
}

/// The struct of a dynamic message: they come from one descriptor set, so only depth can fail.
fn typed<M: TypeUrl>(message: &DynamicMessage) -> Result<M, JsonError> {
    M::decode(message.encode_to_vec().as_slice()).map_err(|_| too_deep())
}

fn too_deep() -> JsonError {
    JsonError { path: String::new(), place: None, message: format!("nested deeper than {MAX_DEPTH} levels") }
}

/// Whether a tree has more levels than this. Looks no deeper itself.
fn is_deeper(tree: &Value, levels: usize) -> bool {
    let Some(levels) = levels.checked_sub(1) else { return true };
    match tree {
        Value::Array(items) => items.iter().any(|item| is_deeper(item, levels)),
        Value::Object(fields) => fields.values().any(|field| is_deeper(field, levels)),
        _ => false,
    }
}

fn from_text(descriptor: MessageDescriptor, text: &str) -> Result<DynamicMessage, JsonError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let result = tracked(&descriptor, &mut reader)
        .and_then(|message| reader.end().map(|()| message).map_err(|error| (error, None)));
    let (error, path) = match result {
        Ok(message) => return Ok(message),
        Err(failure) => failure,
    };
    let place = Some((error.line(), error.column()));
    // An `Any` whose `@type` is not first is buffered by the reader, which loses the path inside;
    // a tree is sorted, `@type` first.
    if let Ok(tree) = serde_json::from_str::<Value>(text) {
        if let Err(detailed) = from_tree(&descriptor, &tree) {
            return Err(JsonError { place, ..detailed });
        }
        return Err(walk::describe(&descriptor, &tree, path.as_ref(), &error, place));
    }
    Err(JsonError { path: String::new(), place, message: "malformed JSON".to_owned() })
}

fn from_tree(descriptor: &MessageDescriptor, tree: &Value) -> Result<DynamicMessage, JsonError> {
    if is_deeper(tree, MAX_DEPTH) {
        return Err(too_deep());
    }
    tracked(descriptor, tree)
        .map_err(|(error, path)| walk::describe(descriptor, tree, path.as_ref(), &error, None))
}

fn tracked<'de, D: Deserializer<'de>>(
    descriptor: &MessageDescriptor,
    deserializer: D,
) -> Result<DynamicMessage, (D::Error, Option<Path>)> {
    let mut track = Track::new();
    descriptor
        .clone()
        .deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track))
        .map_err(|error| (error, Some(track.path())))
}
