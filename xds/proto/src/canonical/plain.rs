//! Messages that have one encoding anyway: those without a map and without an `Any`.
//!
//! Large tables are such, and are looked at with each change: the descriptors of their types are boiled down
//! to what this question needs.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use prost_reflect::{Kind, MessageDescriptor};

use super::{MAX_DEPTH, varint};
use crate::descriptors;

static TYPES: LazyLock<Mutex<Types>> = LazyLock::new(Mutex::default);

/// The types that were met and all that they hold.
#[derive(Default)]
struct Types {
    by_name: HashMap<String, usize>,
    all: Vec<Type>,
}

/// The fields of a message that hold messages, sorted by number.
#[derive(Default)]
struct Type {
    fields: Vec<(u32, Inner)>,
}

#[derive(Clone, Copy)]
enum Inner {
    /// More than one encoding is possible.
    MapOrAny,
    /// Place among all types.
    Message(usize),
}

/// Whether the bytes of the message are canonical as they are. No for what is unknown or malformed.
pub(super) fn is_plain(type_url: &str, bytes: &[u8]) -> bool {
    let mut types = TYPES.lock().unwrap_or_else(PoisonError::into_inner);
    let name = descriptors::full_name(type_url);
    let known = types.by_name.get(name).copied();
    let Some(place) = known.or_else(|| Some(types.learn(&descriptors::message(name)?))) else { return false };
    types.is_plain(place, bytes, MAX_DEPTH).unwrap_or(false)
}

impl Types {
    fn learn(&mut self, message: &MessageDescriptor) -> usize {
        if let Some(place) = self.by_name.get(message.full_name()) {
            return *place;
        }
        let place = self.all.len();
        // Before its fields, because messages may hold themselves.
        self.by_name.insert(message.full_name().to_owned(), place);
        self.all.push(Type::default());
        let mut fields: Vec<(u32, Inner)> = Vec::new();
        for field in message.fields() {
            let Kind::Message(inner) = field.kind() else { continue };
            let inner = match field.is_map() || inner.full_name() == "google.protobuf.Any" {
                true => Inner::MapOrAny,
                false => Inner::Message(self.learn(&inner)),
            };
            fields.push((field.number(), inner));
        }
        fields.sort_unstable_by_key(|(number, _)| *number);
        self.all[place].fields = fields;
        place
    }

    /// `None`: malformed, or too deep.
    fn is_plain(&self, place: usize, mut bytes: &[u8], depth: usize) -> Option<bool> {
        let depth = depth.checked_sub(1)?;
        let fields = &self.all[place].fields;
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            match key & 7 {
                0 => drop(varint(&mut bytes)?),
                1 => drop(bytes.split_off(..8)?),
                5 => drop(bytes.split_off(..4)?),
                2 => {
                    let length = varint(&mut bytes)?;
                    let payload = bytes.split_off(..length)?;
                    let number = u32::try_from(key >> 3).ok()?;
                    let Ok(found) = fields.binary_search_by_key(&number, |(number, _)| *number) else {
                        continue;
                    };
                    match fields[found].1 {
                        Inner::MapOrAny => return Some(false),
                        Inner::Message(inner) => {
                            if !self.is_plain(inner, payload, depth)? {
                                return Some(false);
                            }
                        }
                    }
                }
                _ => return None,
            }
        }
        Some(true)
    }
}
