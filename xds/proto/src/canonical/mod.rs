//! One encoding for one content.
//!
//! prost keeps protobuf maps in hash maps, so the same message may be encoded to different bytes
//! each time. Content hashes and golden files need the same bytes each time.

mod plain;
mod shape;

pub use self::plain::is_plain;
use self::shape::{Held, Shape};
use crate::fields::varint;
use crate::{Any, descriptors};

/// Nested messages deeper than prost would decode are copied as they are.
const MAX_DEPTH: usize = 100;

/// The same message with the entries of each map sorted, through every `Any` inside.
///
/// Works on the wire, without decoding values: some microseconds for a listener, a tenth of one for each
/// route of a table. What is unknown or malformed is copied as it is.
#[must_use]
pub fn canonical(any: &Any) -> Any {
    if is_plain(any, None) {
        return any.clone();
    }
    let value = Shape::of(descriptors::full_name(&any.type_url))
        .and_then(|shape| sorted(shape, &any.value, MAX_DEPTH))
        .unwrap_or_else(|| any.value.clone());
    Any { type_url: any.type_url.clone(), value }
}

/// `None`: malformed, or too deep.
fn sorted(shape: Shape, mut bytes: &[u8], depth: usize) -> Option<Vec<u8>> {
    let depth = depth.checked_sub(1)?;
    let held = shape.is_any().then(|| held_message(bytes)).flatten();
    let mut written = Vec::with_capacity(bytes.len());
    // Key with wire type, and the entry: sorted by field first, then by content.
    let mut entries: Vec<(usize, Vec<u8>)> = Vec::new();
    while !bytes.is_empty() {
        let field = bytes;
        let key = varint(&mut bytes)?;
        match key & 7 {
            0 => drop(varint(&mut bytes)?),
            1 => drop(bytes.split_off(..8)?),
            5 => drop(bytes.split_off(..4)?),
            2 => {
                let length = varint(&mut bytes)?;
                let payload = bytes.split_off(..length)?;
                let inner = match shape.held((key >> 3) as u64) {
                    Some(Held::Entry(entry)) => {
                        entries.push((key, sorted(entry, payload, depth)?));
                        continue;
                    }
                    Some(Held::Message(inner)) => sorted(inner, payload, depth),
                    None if key == ANY_VALUE => held.and_then(|held| sorted(held, payload, depth)),
                    None => None,
                };
                if let Some(inner) = inner {
                    write_delimited(&mut written, key, &inner);
                    continue;
                }
            }
            _ => return None,
        }
        written.extend_from_slice(&field[..field.len() - bytes.len()]);
    }
    entries.sort_unstable();
    for (key, entry) in entries {
        write_delimited(&mut written, key, &entry);
    }
    Some(written)
}

/// The keys of an `Any`'s fields, both length-delimited.
const ANY_TYPE_URL: usize = 1 << 3 | 2;
const ANY_VALUE: usize = 2 << 3 | 2;

/// What an `Any` holds, from its bytes.
fn held_message(mut any: &[u8]) -> Option<Shape> {
    while !any.is_empty() {
        let key = varint(&mut any)?;
        let length = varint(&mut any)?;
        let payload = any.split_off(..length)?;
        if key == ANY_TYPE_URL {
            return Shape::of(descriptors::full_name(str::from_utf8(payload).ok()?));
        }
    }
    None
}

fn write_delimited(written: &mut Vec<u8>, key: usize, payload: &[u8]) {
    for number in [key, payload.len()] {
        prost::encode_length_delimiter(number, written).expect("a Vec grows");
    }
    written.extend_from_slice(payload);
}

#[cfg(test)]
mod tests;
