//! An encoded message field by field, without decoding what is in them.

/// One field on the wire.
#[derive(Debug)]
pub(crate) struct Field<'a> {
    /// Its number and wire type.
    pub(crate) key: usize,
    /// With its key.
    pub(crate) whole: &'a [u8],
    /// Of a length-delimited one.
    pub(crate) payload: Option<&'a [u8]>,
}

impl Field<'_> {
    pub(crate) fn number(&self) -> u64 {
        (self.key >> 3) as u64
    }
}

/// The fields of a message; `None` for what is malformed, as the last.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

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

/// How many fields two messages share at their front, and how many of the others at their end. Cost: a comparison
/// of all bytes.
pub(crate) fn shared_ends(old: &[Field<'_>], new: &[Field<'_>]) -> (usize, usize) {
    let front = old.iter().zip(new).take_while(|(old, new)| old.whole == new.whole).count();
    let rests = old[front..].iter().rev().zip(new[front..].iter().rev());
    (front, rests.take_while(|(old, new)| old.whole == new.whole).count())
}

pub(crate) fn varint(bytes: &mut &[u8]) -> Option<usize> {
    prost::decode_length_delimiter(bytes).ok()
}
