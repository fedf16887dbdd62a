//! From a path in JSON to the descriptors along it: what makes an error worth reading.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::JsonError;
use crate::descriptors;

/// The error that a person sees: path, what is wrong, what to write instead.
pub(super) fn describe(
    root: &MessageDescriptor,
    tree: &Value,
    path: Option<&Path>,
    error: &serde_json::Error,
    place: Option<(usize, usize)>,
) -> JsonError {
    let mut walked = Walked::along(root, tree, path);
    let message = if walked.sensitive {
        "malformed value, not shown because the field is sensitive".to_owned()
    } else {
        walked.explain(error)
    };
    JsonError { path: walked.text, place, message }
}

/// What a JSON object's key means in a message: proto name or camel case.
pub(crate) fn field(message: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    message.get_field_by_name(key).or_else(|| message.get_field_by_json_name(key))
}

/// The message that an object with `@type` holds.
pub(crate) fn held_by_any(object: &Value) -> Option<MessageDescriptor> {
    descriptors::message(descriptors::full_name(object.get("@type")?.as_str()?))
}

/// The message type of a field's value, of its elements, or of its map's values.
pub(crate) fn message_of(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let Kind::Message(message) = field.kind() else { return None };
    if !field.is_map() {
        return Some(message);
    }
    match message.map_entry_value_field().kind() {
        Kind::Message(value) => Some(value),
        _ => None,
    }
}

struct Walked {
    text: String,
    sensitive: bool,
    /// The message whose field the path ends at.
    innermost: Option<MessageDescriptor>,
}

impl Walked {
    fn along(root: &MessageDescriptor, tree: &Value, path: Option<&Path>) -> Self {
        let mut text = String::new();
        let mut sensitive = false;
        let mut value = Some(tree);
        let mut message = Some(root.clone());
        // Set while between a map field and its key, when a key names no field.
        let mut in_map = false;
        for segment in path.into_iter().flat_map(Path::iter) {
            match segment {
                Segment::Seq { index } => {
                    text.push_str(&format!("[{index}]"));
                    value = value.and_then(|value| value.get(index));
                }
                Segment::Map { key } | Segment::Enum { variant: key } => {
                    let holder = message.clone().map(|holder| opened(holder, value));
                    if in_map {
                        text.push_str(&format!("[{key:?}]"));
                        in_map = false;
                    } else {
                        if !text.is_empty() {
                            text.push('.');
                        }
                        text.push_str(key);
                        let Some(next) = holder.as_ref().and_then(|holder| field(holder, key)) else {
                            // The key itself is what is wrong.
                            message = holder;
                            break;
                        };
                        sensitive |= descriptors::is_sensitive(&next);
                        in_map = next.is_map();
                        message = message_of(&next);
                    }
                    value = value.and_then(|value| value.get(key));
                }
                Segment::Unknown => {}
            }
        }
        let innermost = message.map(|message| opened(message, value));
        Self { text, sensitive, innermost }
    }

    /// The library's words, or better ones with the names that may have been meant.
    fn explain(&mut self, error: &serde_json::Error) -> String {
        let mut message = error.to_string();
        if error.line() > 0
            && let Some(end) = message.rfind(" at line ")
        {
            message.truncate(end);
        }
        if message.contains("PRIVATE KEY") {
            return "malformed value, not shown because it looks like a private key".to_owned();
        }
        if let Some(name) = quoted_after(&message, "message '") {
            return format!("{name} is not a message of this Envoy release; check the spelling of @type");
        }
        if let Some(name) = quoted_after(&message, "unrecognized field name '")
            && let Some(holder) = &self.innermost
        {
            if !self.text.is_empty() {
                self.text.push('.');
            }
            self.text.push_str(name);
            let close = closest(name, holder.fields().map(|field| field.name().to_owned()));
            let hint = close.map_or_else(String::new, |close| format!("; did you mean {close}?"));
            return format!("{} has no field {name}{hint}", holder.full_name());
        }
        message
    }
}

/// The message that an object's keys belong to: the one inside, for an `Any`.
fn opened(message: MessageDescriptor, value: Option<&Value>) -> MessageDescriptor {
    if message.full_name() != "google.protobuf.Any" {
        return message;
    }
    value.and_then(held_by_any).unwrap_or(message)
}

fn quoted_after<'a>(message: &'a str, start: &str) -> Option<&'a str> {
    message.strip_prefix(start)?.split('\'').next()
}

/// The candidate within a third of its length in edits.
fn closest(name: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    candidates
        .map(|candidate| (distance(name, &candidate), candidate))
        .filter(|(distance, candidate)| distance * 3 <= candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance in bytes, of names that are short: longer input counts as far away.
fn distance(left: &str, right: &str) -> usize {
    if left.len() > 64 {
        return usize::MAX / 4;
    }
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.bytes().enumerate() {
            let substituted = diagonal + usize::from(l != r);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}
