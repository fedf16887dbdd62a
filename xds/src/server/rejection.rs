//! Which resources of a response a NACK is about.

use std::collections::BTreeMap;

use mesh_xds_proto::{Any, Struct, Value, any, decode, rpc::Status, struct_value::Kind};

/// gRPC's INVALID_ARGUMENT.
const INVALID_ARGUMENT: i32 = 3;
/// A NACK may refuse a thousand resources; logs and the wire need not carry all words.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// A foreign text about many resources is remembered for each of them.
const MAX_REMEMBERED_BYTES: usize = 2 * 1024;

/// The `error_detail` of a NACK: the messages joined for people and for other servers, and by name
/// in `details` (a `google.protobuf.Struct`) for ours.
pub(crate) fn status(rejected: &[(String, String)]) -> Status {
    let mut message = String::new();
    for (name, why) in rejected {
        if message.len() + name.len() + why.len() > MAX_MESSAGE_BYTES {
            message.push_str("; ...");
            break;
        }
        let separator = if message.is_empty() { "" } else { "; " };
        message.push_str(&format!("{separator}{name}: {why}"));
    }
    let fields = rejected
        .iter()
        .map(|(name, why)| (name.clone(), Value { kind: Some(Kind::StringValue(why.clone())) }))
        .collect();
    Status { code: INVALID_ARGUMENT, message, details: vec![any(&Struct { fields })] }
}

/// The message for each refused resource out of those that were sent.
///
/// Other clients have only a text, which usually names the resources; if it names none of them, all
/// are taken as refused.
pub(super) fn by_resource<'a>(
    status: &Status,
    sent: impl Iterator<Item = &'a str> + Clone,
) -> BTreeMap<String, String> {
    if let Some(details) = status.details.iter().find_map(from_details) {
        return sent
            .filter_map(|name| Some((name.to_owned(), shortened(details.get(name)?).to_owned())))
            .collect();
    }
    let refused = |name: &str| (name.to_owned(), shortened(&status.message).to_owned());
    let named: BTreeMap<String, String> =
        sent.clone().filter(|name| names(&status.message, name)).map(refused).collect();
    if named.is_empty() { sent.map(refused).collect() } else { named }
}

/// The beginning of a text, as much as is worth remembering or logging.
pub(super) fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_REMEMBERED_BYTES)]
}

fn from_details(detail: &Any) -> Option<BTreeMap<String, String>> {
    let details: Struct = decode(detail).ok()?;
    details
        .fields
        .into_iter()
        .map(|(name, value)| match value.kind {
            Some(Kind::StringValue(message)) => Some((name, message)),
            _ => None,
        })
        .collect()
}

/// Whether the text has the name as a word of its own: `web` is not in `web-2` or `gateway/web`.
fn names(text: &str, name: &str) -> bool {
    let in_a_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '/' | '.' | '*');
    text.match_indices(name).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let mut after = text[start + name.len()..].chars();
        let next = after.next();
        // A full stop may end the sentence.
        let goes_on = match next {
            Some('.') => after.next().is_some_and(in_a_name),
            Some(c) => in_a_name(c),
            None => false,
        };
        !name.is_empty() && !before.is_some_and(in_a_name) && !goes_on
    })
}
