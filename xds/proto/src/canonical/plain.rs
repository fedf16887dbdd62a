//! Messages that have one encoding anyway: those without a map and without an `Any`.
//!
//! Large tables are such, and little of them changes at a time: what is the same as before is not looked into.

use super::shape::{Held, Shape};
use super::{MAX_DEPTH, varint};
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
            if !field?.is_plain(shape, None, depth)? {
                return Some(false);
            }
        }
        return Some(true);
    };
    let new: Vec<Field<'_>> = Fields(bytes).collect::<Option<_>>()?;
    let old: Vec<Field<'_>> = Fields(before).collect::<Option<_>>()?;
    let front = new.iter().zip(&old).take_while(|(new, old)| new.whole == old.whole).count();
    let rests = new[front..].iter().rev().zip(old[front..].iter().rev());
    let back = rests.take_while(|(new, old)| new.whole == old.whole).count();
    let (new, old) = (&new[front..new.len() - back], &old[front..old.len() - back]);
    // One entry in place of one: that may be large as well.
    let earlier = match (new, old) {
        ([new], [old]) if new.key == old.key => old.payload,
        _ => None,
    };
    for field in new {
        if !field.is_plain(shape, earlier, depth)? {
            return Some(false);
        }
    }
    Some(true)
}

struct Field<'a> {
    key: usize,
    /// With its key.
    whole: &'a [u8],
    /// Of a length-delimited one.
    payload: Option<&'a [u8]>,
}

impl Field<'_> {
    fn is_plain(&self, shape: Shape, before: Option<&[u8]>, depth: usize) -> Option<bool> {
        let Some(payload) = self.payload else { return Some(true) };
        match shape.held((self.key >> 3) as u64) {
            None => Some(true),
            Some(Held::Entry(_)) => Some(false),
            Some(Held::Message(inner)) if inner.is_any() => Some(false),
            Some(Held::Message(inner)) => all_plain(inner, payload, before, depth),
        }
    }
}

/// The fields of a message; `None` for what is malformed, as the last.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Option<Field<'a>> {
        let rest = &mut self.0;
        let begin = *rest;
        let key = varint(rest)?;
        let mut payload = None;
        match key & 7 {
            0 => drop(varint(rest)?),
            1 => drop(rest.split_off(..8)?),
            2 => {
                let length = varint(rest)?;
                payload = Some(rest.split_off(..length)?);
            }
            5 => drop(rest.split_off(..4)?),
            _ => return None,
        }
        Some(Field { key, whole: &begin[..begin.len() - rest.len()], payload })
    }
}
