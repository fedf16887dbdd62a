//! Messages that have one encoding anyway: those without a map and without an `Any`.
//!
//! Large tables are such, and little of them changes at a time: what is the same as before is not looked into.

use super::MAX_DEPTH;
use super::shape::{Held, Shape};
use crate::fields::{Difference, Field, Fields};
use crate::{Any, descriptors};

/// Whether the bytes of the message are canonical as they are. No for what is unknown or malformed.
///
/// `before` is an earlier version of which that is known. Cost: a look at each field of the messages that
/// differ from those in its place before, a comparison of bytes for the others.
#[must_use]
pub fn is_plain(any: &Any, before: Option<&Any>) -> bool {
    let before =
        before.filter(|before| before.type_url == any.type_url).map(|before| before.value.as_slice());
    Shape::of(descriptors::full_name(&any.type_url))
        .and_then(|shape| all_plain(shape, &any.value, before, MAX_DEPTH))
        .unwrap_or(false)
}

/// `None`: malformed, or too deep.
fn all_plain(shape: Shape, bytes: &[u8], before: Option<&[u8]>, depth: usize) -> Option<bool> {
    let depth = depth.checked_sub(1)?;
    let Some(before) = before else {
        for field in Fields(bytes) {
            if !is_field_plain(&field?, shape, None, depth)? {
                return Some(false);
            }
        }
        return Some(true);
    };
    let Difference { old, new, .. } = Difference::between(before, bytes)?;
    for (position, field) in new.iter().enumerate() {
        // As many in place of as many: those may be large as well.
        let earlier = old.get(position).filter(|earlier| old.len() == new.len() && earlier.key == field.key);
        if !is_field_plain(field, shape, earlier.and_then(|earlier| earlier.payload), depth)? {
            return Some(false);
        }
    }
    Some(true)
}

fn is_field_plain(field: &Field<'_>, shape: Shape, before: Option<&[u8]>, depth: usize) -> Option<bool> {
    let Some(payload) = field.payload else { return Some(true) };
    match shape.held(field.number()) {
        None => Some(true),
        Some(Held::Entry(_)) => Some(false),
        Some(Held::Message(inner)) if inner.is_any() => Some(false),
        Some(Held::Message(inner)) => all_plain(inner, payload, before, depth),
    }
}
