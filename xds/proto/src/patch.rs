//! A new version of a large resource, told as what differs from the version before.
//!
//! Between a server and a proxy of our own; see `docs/decisions/0005-patches-of-route-tables.md`.

use std::fmt;

use prost::{Message, Name};

use crate::Any;
use crate::fields::{Difference, Field};

/// What a client puts into `Node.client_features` to be sent [`Patch`]es.
pub const TAKES_PATCHES: &str = "millrace.xds.patch.v1";

/// Messages in a message that are looked into: a table, its hosts, their routes.
const MAX_DEPTH: usize = 4;

/// Shorter ones are put whole.
const LOOKED_INTO: usize = 1024;

/// Stands in an `Any` in place of a resource of which the receiver has another version.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Patch {
    /// The version that the receiver has acknowledged.
    #[prost(string, tag = "1")]
    pub base: String,
    /// The new version, from front to back.
    #[prost(message, repeated, tag = "2")]
    pub pieces: Vec<Piece>,
}

/// Bytes that are new, followed by bytes of the base.
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub struct Piece {
    /// The new ones.
    #[prost(bytes = "vec", tag = "1")]
    pub put: Vec<u8>,
    /// Where in the base those begin that follow: nowhere before the end of the last piece's.
    #[prost(uint64, tag = "2")]
    pub from: u64,
    /// How many they are.
    #[prost(uint64, tag = "3")]
    pub length: u64,
}

/// Without the bytes, which may hold a credential.
impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { put, from, length } = self;
        write!(f, "{} bytes, {length} from {from}", put.len())
    }
}

impl Name for Patch {
    const NAME: &'static str = "Patch";
    const PACKAGE: &'static str = "millrace.xds.v1";
}

impl Patch {
    /// The type URL of an `Any` that holds one.
    pub const TYPE_URL: &'static str = "type.googleapis.com/millrace.xds.v1.Patch";

    /// What makes `new` of `old`, two encoded messages of one type. Fields that are the same at the front and at the
    /// back are kept; those between are looked into one by one if they are as many as before, and put otherwise.
    /// Cost: a comparison of all bytes.
    #[must_use]
    pub fn between(base: String, old: &[u8], new: &[u8]) -> Self {
        let mut pieces = Pieces::default();
        pieces.of_message(old, 0, new, MAX_DEPTH);
        Self { base, pieces: pieces.0 }
    }

    /// The new version, of the same type as `base`. `None`: it is not of `base`. Cost: a copy.
    #[must_use]
    pub fn apply(&self, base: &Any) -> Option<Any> {
        let mut parts = Vec::with_capacity(self.pieces.len() * 2);
        let (mut rest, mut at) = (base.value.as_slice(), 0);
        for Piece { put, from, length } in &self.pieces {
            let (from, length) = (usize::try_from(*from).ok()?, usize::try_from(*length).ok()?);
            // In order, so that nothing gets longer than the base and the patch.
            rest = rest.get(from.checked_sub(at)?..)?;
            parts.push(put.as_slice());
            parts.push(rest.split_off(..length)?);
            at = from + length;
        }
        Some(Any { type_url: base.type_url.clone(), value: parts.concat() })
    }
}

/// Pieces while they are put together.
#[derive(Default)]
struct Pieces(Vec<Piece>);

impl Pieces {
    /// `new` in place of `old`, which stands at `at` in the base.
    fn of_message(&mut self, old: &[u8], at: usize, new: &[u8], depth: usize) {
        let Some(difference) = Difference::between(old, new) else {
            return self.put(new);
        };
        let mut kept = difference.front;
        self.keep(at, kept);
        if difference.old.len() == difference.new.len() {
            for (was, field) in difference.old.iter().zip(&difference.new) {
                self.of_field(was, at + kept, field, depth);
                kept += was.whole.len();
            }
        } else {
            difference.new.iter().for_each(|field| self.put(field.whole));
        }
        self.keep(at + old.len() - difference.back, difference.back);
    }

    /// One field in place of another, of which most may be the same.
    fn of_field(&mut self, old: &Field<'_>, at: usize, new: &Field<'_>, depth: usize) {
        match (old.payload, new.payload) {
            _ if old.whole == new.whole => self.keep(at, old.whole.len()),
            (Some(was), Some(payload)) if old.key == new.key && payload.len() >= LOOKED_INTO && depth > 1 => {
                self.put(&new.whole[..new.whole.len() - payload.len()]);
                self.of_message(was, at + old.whole.len() - was.len(), payload, depth - 1);
            }
            _ => self.put(new.whole),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        match self.0.last_mut() {
            Some(piece) if piece.length == 0 => piece.put.extend_from_slice(bytes),
            last => {
                let from = last.map_or(0, |piece| piece.from + piece.length);
                self.0.push(Piece { put: bytes.to_vec(), from, length: 0 });
            }
        }
    }

    fn keep(&mut self, from: usize, length: usize) {
        let (from, length) = (from as u64, length as u64);
        match self.0.last_mut() {
            _ if length == 0 => {}
            Some(piece) if piece.length == 0 => (piece.from, piece.length) = (from, length),
            Some(piece) if piece.from + piece.length == from => piece.length += length,
            _ => self.0.push(Piece { put: Vec::new(), from, length }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Patch, Piece};
    use crate::route::{Route, RouteConfiguration, VirtualHost};
    use crate::{Any, Message, TypeUrl, decode};

    fn text(value: Vec<u8>) -> Any {
        Any { type_url: "type.googleapis.com/a.B".to_owned(), value }
    }

    /// Hosts with routes of some size each.
    fn table(hosts: &[Vec<u8>]) -> Vec<u8> {
        let route = |number: &u8| Route { name: number.to_string().repeat(300), ..Route::default() };
        let hosts = hosts.iter().map(|routes| VirtualHost {
            name: "host".to_owned(),
            routes: routes.iter().map(route).collect(),
            ..VirtualHost::default()
        });
        RouteConfiguration { virtual_hosts: hosts.collect(), ..RouteConfiguration::default() }.encode_to_vec()
    }

    fn sent(old: &[u8], new: &[u8]) -> Patch {
        decode(&crate::any(&Patch::between("1".to_owned(), old, new))).unwrap()
    }

    proptest! {
        #[test]
        fn a_patch_makes_the_new_table_of_the_old_one(
            old in prop::collection::vec(prop::collection::vec(0..4_u8, 0..9), 0..4),
            new in prop::collection::vec(prop::collection::vec(0..4_u8, 0..9), 0..4),
        ) {
            let (old, new) = (table(&old), table(&new));
            prop_assert_eq!(sent(&old, &new).apply(&text(old)), Some(text(new)));
        }

        #[test]
        fn a_patch_makes_any_bytes_of_any(
            old in prop::collection::vec(any::<u8>(), 0..40), new in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            prop_assert_eq!(sent(&old, &new).apply(&text(old)), Some(text(new)));
        }

        #[test]
        fn no_patch_makes_a_receiver_fall_over(
            pieces in prop::collection::vec((0..4_usize, 0..9_u64, 0..9_u64), 0..6), base in 0..9_usize,
        ) {
            let piece = |(put, from, length)| Piece { put: vec![1; put], from, length };
            let patch = Patch { base: String::new(), pieces: pieces.into_iter().map(piece).collect() };
            let put: usize = patch.pieces.iter().map(|piece| piece.put.len()).sum();
            if let Some(made) = patch.apply(&text(vec![0; base])) {
                prop_assert!(made.value.len() <= base + put);
            }
        }
    }

    #[test]
    fn one_route_of_many_is_sent_with_little_else() {
        let routes: Vec<u8> = (0..100).collect();
        let old = table(&[routes.clone(), routes.clone(), routes.clone()]);
        for at in [0, 50, 100] {
            let mut more = routes.clone();
            more.insert(at, 7);
            let new = table(&[routes.clone(), more, routes.clone()]);
            for (old, new) in [(&old, &new), (&new, &old)] {
                let patch = sent(old, new);
                assert!(patch.encoded_len() < 400, "{} bytes", patch.encoded_len());
                assert_eq!(patch.apply(&text(old.clone())), Some(text(new.clone())));
            }
        }
    }

    #[test]
    fn several_hosts_that_change_alike_are_sent_with_little_else() {
        let routes: Vec<u8> = (0..100).collect();
        let more = [&routes[..40], &[7], &routes[40..]].concat();
        let (old, new) =
            (table(&[routes.clone(), routes.clone(), routes.clone()]), [more.clone(), routes, more]);
        let new = table(&new);
        let patch = sent(&old, &new);
        assert!(patch.encoded_len() < 800, "{} bytes", patch.encoded_len());
        assert_eq!(patch.apply(&text(old)), Some(text(new)));
    }

    #[test]
    fn a_patch_of_something_else_is_refused() {
        let piece = |from, length| Piece { from, length, ..Piece::default() };
        let patch = |pieces: &[Piece]| Patch { base: String::new(), pieces: pieces.to_vec() };
        let base = text(vec![1, 2, 3]);
        assert!(patch(&[piece(0, 1), piece(2, 1), piece(3, 0)]).apply(&base).is_some());
        let (most, all) = (u64::MAX, piece(0, 3));
        for pieces in [
            &[piece(0, 4)][..],
            &[piece(4, 0)],
            &[piece(1, most)],
            &[piece(most, 1)],
            &[piece(most, most)],
            &[all.clone(), all.clone()],
            &[all, piece(2, 1)],
        ] {
            assert_eq!(patch(pieces).apply(&base), None, "{pieces:?}");
        }
    }

    #[test]
    fn the_type_url_is_that_of_the_message() {
        assert_eq!(Patch::TYPE_URL, Patch::type_url_of());
    }
}
