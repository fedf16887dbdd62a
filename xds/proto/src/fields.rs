//! An encoded message field by field, without decoding what is in them.

/// One field on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its number and wire type.
    pub(crate) key: usize,
    /// With its key.
    pub whole: &'a [u8],
    /// Of a length-delimited one.
    pub payload: Option<&'a [u8]>,
}

impl Field<'_> {
    /// Its number in the message.
    #[must_use]
    pub fn number(&self) -> u64 {
        (self.key >> 3) as u64
    }
}

/// The fields of a message; `None` for what is malformed, as the last.
#[derive(Debug, Clone)]
pub struct Fields<'a>(pub &'a [u8]);

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
            // Groups are in none of Envoy's messages.
            _ => return None,
        }
        Some(Field { key, whole: &begin[..begin.len() - rest.len()], payload })
    }
}

/// Where two encoded messages differ, by whole fields.
#[derive(Debug)]
pub struct Difference<'o, 'n> {
    /// Bytes of the fields in front that both have.
    pub front: usize,
    /// The fields of the old message that follow,
    pub old: Vec<Field<'o>>,
    /// and those of the new one.
    pub new: Vec<Field<'n>>,
    /// Bytes of the fields at the end that both have.
    pub back: usize,
}

impl<'o, 'n> Difference<'o, 'n> {
    /// `None`: malformed where they differ. What is malformed in the same way in both is not seen. Cost: a
    /// comparison of all bytes, a step for each field before the end of the difference, no more for the others.
    #[must_use]
    pub fn between(old: &'o [u8], new: &'n [u8]) -> Option<Self> {
        let same_front = shared_front(old, new);
        let mut rest = new;
        loop {
            let mut fields = Fields(rest);
            let is_same = |after: &[u8]| new.len() - after.len() <= same_front;
            match fields.next() {
                Some(Some(_)) if is_same(fields.0) => rest = fields.0,
                _ => break,
            }
        }
        let front = new.len() - rest.len();
        let (mut old_rest, mut new_rest) = (Fields(&old[front..]), Fields(rest));
        let same_back = shared_back(old_rest.0, rest);
        let mut difference = Self { front, old: Vec::new(), new: Vec::new(), back: 0 };
        // Until what is left has the same length and is the same: then it is the same fields.
        while old_rest.0.len() != new_rest.0.len() || old_rest.0.len() > same_back {
            let (old_left, new_left) = (old_rest.0.len(), new_rest.0.len());
            if old_left >= new_left {
                difference.old.push(old_rest.next().flatten()?);
            }
            if new_left >= old_left {
                difference.new.push(new_rest.next().flatten()?);
            }
        }
        difference.back = old_rest.0.len();
        Some(difference)
    }
}

/// Slices of this length are compared at the speed of memory.
const STEP: usize = 4096;

/// How many bytes are the same at the front.
fn shared_front(old: &[u8], new: &[u8]) -> usize {
    let steps = old.chunks_exact(STEP).zip(new.chunks_exact(STEP));
    let steps = steps.take_while(|(old, new)| old == new).count() * STEP;
    let bytes = old[steps..].iter().zip(&new[steps..]);
    steps + bytes.take_while(|(old, new)| old == new).count()
}

/// How many bytes are the same at the end.
fn shared_back(old: &[u8], new: &[u8]) -> usize {
    let steps = old.rchunks_exact(STEP).zip(new.rchunks_exact(STEP));
    let steps = steps.take_while(|(old, new)| old == new).count() * STEP;
    let bytes = old[..old.len() - steps].iter().rev().zip(new[..new.len() - steps].iter().rev());
    steps + bytes.take_while(|(old, new)| old == new).count()
}

pub(crate) fn varint(bytes: &mut &[u8]) -> Option<usize> {
    prost::decode_length_delimiter(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Difference, Field, Fields};

    /// A message of fields with these numbers and contents.
    fn message(fields: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, content) in fields {
            prost::encoding::bytes::encode(*number, content, &mut bytes);
        }
        bytes
    }

    /// Few and long, so that lists have much in common.
    fn fields() -> impl Strategy<Value = Vec<(u32, Vec<u8>)>> {
        let content =
            (0..2_u8, prop::sample::select(vec![1, 2, 4100])).prop_map(|(byte, count)| vec![byte; count]);
        prop::collection::vec((1..3_u32, content), 0..8)
    }

    proptest! {
        #[test]
        fn front_difference_and_back_are_both_messages(
            front in fields(), old in fields(), new in fields(), back in fields(),
        ) {
            let whole = |between: &[(u32, Vec<u8>)]| message(&[&front, between, &back].concat());
            let (old, new) = (whole(&old), whole(&new));
            let difference = Difference::between(&old, &new).unwrap();
            let join = |fields: &[Field<'_>], of: &[u8]| {
                let between: Vec<&[u8]> = fields.iter().map(|field| field.whole).collect();
                [&of[..difference.front], &between.concat(), &of[of.len() - difference.back..]].concat()
            };
            prop_assert_eq!(join(&difference.old, &old), &old[..]);
            prop_assert_eq!(join(&difference.new, &new), &new[..]);
            let ends = |of: &[u8]| (of[..difference.front].to_vec(), of[of.len() - difference.back..].to_vec());
            prop_assert_eq!(ends(&old), ends(&new));
            let count = |bytes: &[u8]| Fields(bytes).collect::<Option<Vec<_>>>().expect("whole fields").len();
            let ends = count(&new[..difference.front]) + count(&new[new.len() - difference.back..]);
            prop_assert_eq!(ends + difference.new.len(), count(&new));
            prop_assert!(ends >= front.len().min(count(&new)));
            if let (Some(old), Some(new)) = (difference.old.first(), difference.new.first()) {
                prop_assert_ne!(old, new);
            }
        }
    }
}
