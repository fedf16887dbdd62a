//! Which messages a message holds, from a table that the build script made of the descriptors.

use std::sync::LazyLock;

include!(concat!(env!("OUT_DIR"), "/shapes.rs"));

static ANY: LazyLock<Option<Shape>> = LazyLock::new(|| Shape::of("google.protobuf.Any"));

/// The type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape(usize);

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    Message(Shape),
    /// An entry of a map.
    Entry(Shape),
}

impl Shape {
    /// By full name. `None`: envoy-types has no such message. Cost: a binary search.
    pub(super) fn of(full_name: &str) -> Option<Self> {
        let (mut low, mut high) = (0, SHAPES.len() - 1);
        while low < high {
            let middle = low.midpoint(high);
            if Self(middle).name() < full_name { low = middle + 1 } else { high = middle }
        }
        let found = Self(low);
        (low + 1 < SHAPES.len() && found.name() == full_name).then_some(found)
    }

    pub(super) fn is_any(self) -> bool {
        Some(self) == *ANY
    }

    /// What the field of that number holds, if it is messages.
    pub(super) fn held(self, number: u64) -> Option<Held> {
        let fields = &FIELDS[SHAPES[self.0].1 as usize..SHAPES[self.0 + 1].1 as usize];
        let found = fields.binary_search_by_key(&number, |(number, ..)| u64::from(*number)).ok()?;
        let (_, shape, is_entry) = fields[found];
        let shape = Self(usize::from(shape));
        Some(if is_entry { Held::Entry(shape) } else { Held::Message(shape) })
    }

    fn name(self) -> &'static str {
        &NAMES[SHAPES[self.0].0 as usize..SHAPES[self.0 + 1].0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::Kind;

    use super::{Held, Shape};
    use crate::descriptors;

    /// The table says of each message what its descriptor says.
    #[test]
    fn every_message_holds_what_its_descriptor_says() {
        let mut messages = 0;
        for message in descriptors::all_messages() {
            let shape = Shape::of(message.full_name()).expect("every message is in the table");
            assert_eq!(shape.name(), message.full_name());
            assert_eq!(shape.is_any(), message.full_name() == "google.protobuf.Any");
            for number in 1..=200 {
                let field = message.get_field(number);
                let expected = field.and_then(|field| match field.kind() {
                    Kind::Message(inner) => Some((inner.full_name().to_owned(), field.is_map())),
                    _ => None,
                });
                let found = shape.held(u64::from(number)).map(|held| match held {
                    Held::Message(inner) => (inner.name().to_owned(), false),
                    Held::Entry(inner) => (inner.name().to_owned(), true),
                });
                assert_eq!(found, expected, "{} {number}", message.full_name());
            }
            messages += 1;
        }
        assert!(messages > 1000, "{messages} messages");
    }

    #[test]
    fn what_is_no_message_has_no_shape() {
        for name in ["", "a", "envoy.config.route.v3.Rout", "google.protobuf.Anyway", "zzz"] {
            assert_eq!(Shape::of(name), None, "{name}");
        }
    }
}
