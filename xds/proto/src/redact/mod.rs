//! JSON that may be shown: config dumps, goldens, logs.
//!
//! Three nets, any of which is enough to hide a value:
//! 1. fields that Envoy annotates as sensitive (private keys, passwords, generic secrets, session
//!    ticket keys, ...), with everything below them except the names of files and variables;
//! 2. values of headers that carry credentials;
//! 3. any string, or base64 of bytes, with the words of a PEM private key in it.
//!
//! A hidden private key or ticket key shows a SHA-256 fingerprint, so that two dumps can be
//! compared. Passwords and generic secrets show none: a hash of a guessable word is the word.

use base64::{Engine, prelude::BASE64_STANDARD};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{Any, TypeUrl, any, descriptors, json::walk};

/// What stands in place of a hidden value; a fingerprint may follow it.
pub const REDACTED: &str = "[redacted]";

const ANY: &str = "google.protobuf.Any";

/// Headers whose value is a credential.
const CREDENTIAL_HEADERS: [&str; 6] =
    ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-auth-token"];

/// Fields of `DataSource` that name a place, not a secret.
const NAMES_OF_PLACES: [&str; 3] = ["filename", "environment_variable", "watched_directory"];

/// Whether the value of a header is a credential.
#[must_use]
pub fn is_credential(header: &str) -> bool {
    CREDENTIAL_HEADERS.iter().any(|name| name.eq_ignore_ascii_case(header))
}

/// Prints what an `Any` holds, with `@type`, without secrets.
///
/// Never fails: what cannot be printed (a type of another Envoy release, malformed bytes, an `Any`
/// inside that is either) becomes an object with `@type`, `error` and the number of bytes, because
/// nobody can say which of its bytes are secret.
#[must_use]
pub fn encode_any(any: &Any) -> Value {
    match crate::json::encode_any(any) {
        Ok(mut value) => {
            hide_in_message(&descriptors::any(), &mut value);
            value
        }
        Err(error) => {
            json!({ "@type": any.type_url, "error": error.to_string(), "bytes": any.value.len() })
        }
    }
}

/// Prints a message without `@type` and without secrets; see [`encode_any`].
#[must_use]
pub fn encode<M: TypeUrl>(message: &M) -> Value {
    let mut value = encode_any(&any(message));
    if let Value::Object(fields) = &mut value {
        fields.remove("@type");
    }
    value
}

/// The first 128 bits of SHA-256, as hex: enough to tell two keys apart.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn hide_in_message(message: &MessageDescriptor, value: &mut Value) {
    if message.full_name() == ANY {
        match walk::held_by_any(value) {
            // An `Any` in an `Any` prints as `{"@type": .., "value": ..}`.
            Some(held) if held.full_name() == ANY => match value.get_mut("value") {
                Some(inner) => hide_in_message(&held, inner),
                None => hide_keys(value),
            },
            Some(held) => hide_in_message(&held, value),
            None => hide_keys(value),
        }
        return;
    }
    let Value::Object(object) = value else {
        // A well-known type in its short form.
        return hide_keys(value);
    };
    if message.full_name() == "envoy.config.core.v3.HeaderValue" {
        hide_credential(object);
    }
    for (key, value) in object {
        match walk::field(message, key) {
            Some(field) if descriptors::is_sensitive(&field) => {
                hide_all(value, has_entropy(&field), field_is_bytes(&field));
            }
            Some(field) => hide_in_field(&field, value),
            // `@type`, or the `value` of a well-known type.
            None => hide_keys(value),
        }
    }
}

fn hide_in_field(field: &FieldDescriptor, value: &mut Value) {
    let Some(message) = walk::message_of(field) else { return hide_keys(value) };
    match value {
        Value::Array(items) if field.is_list() => {
            items.iter_mut().for_each(|item| hide_in_message(&message, item));
        }
        Value::Object(entries) if field.is_map() => {
            entries.values_mut().for_each(|entry| hide_in_message(&message, entry));
        }
        other => hide_in_message(&message, other),
    }
}

fn hide_credential(header: &mut Map<String, Value>) {
    let is_credential = header.get("key").and_then(Value::as_str).is_some_and(is_credential);
    for value in ["value", "raw_value"] {
        if is_credential && let Some(shown) = header.get_mut(value) {
            *shown = REDACTED.into();
        }
    }
}

/// Hides every value below a sensitive field.
fn hide_all(value: &mut Value, fingerprinted: bool, is_bytes: bool) {
    match value {
        Value::Null => {}
        Value::Array(items) => items.iter_mut().for_each(|item| hide_all(item, fingerprinted, is_bytes)),
        Value::Object(fields) => {
            for (key, value) in fields {
                if key != "@type" && !NAMES_OF_PLACES.contains(&key.as_str()) {
                    hide_all(value, fingerprinted, key == "inline_bytes");
                }
            }
        }
        Value::String(text) if fingerprinted => {
            let decoded = if is_bytes { BASE64_STANDARD.decode(&*text).ok() } else { None };
            let print = fingerprint(decoded.as_deref().unwrap_or(text.as_bytes()));
            *text = format!("{REDACTED} sha256:{print}");
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => *value = REDACTED.into(),
    }
}

/// Hides strings that hold a PEM private key, whatever field they are in.
fn hide_keys(value: &mut Value) {
    const MARK: &str = "PRIVATE KEY";
    match value {
        Value::String(text) => {
            let in_base64 = || {
                BASE64_STANDARD
                    .decode(&*text)
                    .is_ok_and(|bytes| bytes.windows(MARK.len()).any(|window| window == MARK.as_bytes()))
            };
            if text.contains(MARK) || in_base64() {
                *value = REDACTED.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_keys),
        Value::Object(fields) => fields.values_mut().for_each(hide_keys),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Keys are random, so their hash gives nothing away.
fn has_entropy(field: &FieldDescriptor) -> bool {
    matches!(
        field.full_name(),
        "envoy.extensions.transport_sockets.tls.v3.TlsCertificate.private_key"
            | "envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys.keys"
            | "envoy.config.core.v3.GrpcService.GoogleGrpc.SslCredentials.private_key"
    )
}

fn field_is_bytes(field: &FieldDescriptor) -> bool {
    field.kind() == Kind::Bytes
}

#[cfg(test)]
mod tests;
