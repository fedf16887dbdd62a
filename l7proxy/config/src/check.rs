//! Reading messages field by field, with the path of whatever is not accepted.
//!
//! Every compiler in this crate opens its message with [`fields!`], which names *all* fields: those
//! it reads, those that change nothing for us, and those it refuses when set. A field that a newer
//! envoy-types adds stops the build here instead of being ignored in silence.

use std::fmt::{Display, Write};
use std::time::Duration;

use mesh_xds_proto::{Any, TypeUrl};

/// Why a resource is refused, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) field: String,
    pub(crate) reason: String,
}

pub(crate) type Checked<T> = Result<T, Refusal>;

/// A place in a message: a list on the stack, written out only for a [`Refusal`].
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    parent: Option<&'a At<'a>>,
    part: Part<'a>,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Root,
    Field(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub(crate) const ROOT: At<'static> = At { parent: None, part: Part::Root };

    pub(crate) fn field(&'a self, name: &'a str) -> At<'a> {
        At { parent: Some(self), part: Part::Field(name) }
    }

    pub(crate) fn index(&'a self, index: usize) -> At<'a> {
        At { parent: Some(self), part: Part::Index(index) }
    }

    pub(crate) fn refuse(&self, reason: impl Display) -> Refusal {
        let mut field = String::new();
        self.write(&mut field);
        Refusal { field, reason: reason.to_string() }
    }

    /// Fails unless the field has its default value.
    pub(crate) fn refuse_if_set<T: Default + PartialEq>(&self, value: &T) -> Checked<()> {
        if *value == T::default() {
            Ok(())
        } else {
            Err(self.refuse("not supported by this proxy; unset it"))
        }
    }

    /// Opens an `Any` that must hold an `M`.
    pub(crate) fn decode<M: TypeUrl>(&self, any: &Any) -> Checked<M> {
        mesh_xds_proto::decode(any).map_err(|error| self.refuse(error))
    }

    /// Fails unless an `Any` says that it holds an `M`.
    pub(crate) fn expect_type<M: TypeUrl>(&self, any: &Any) -> Checked<()> {
        if any.type_url == M::type_url_of() {
            Ok(())
        } else {
            // An empty one of the same type, for the words of its error.
            let empty = Any { type_url: any.type_url.clone(), ..Any::default() };
            self.decode::<M>(&empty).map(drop)
        }
    }

    /// Reads an encoded `M`.
    pub(crate) fn decode_bytes<M: TypeUrl>(&self, bytes: &[u8]) -> Checked<M> {
        M::decode(bytes).map_err(|error| self.refuse(format!("malformed {}: {error}", M::full_name())))
    }

    fn write(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(out);
        }
        match self.part {
            Part::Root => {}
            Part::Field(name) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name.trim_start_matches("r#"));
            }
            Part::Index(index) => {
                let _ = write!(out, "[{index}]");
            }
        }
    }
}

/// Takes a message apart, every field named: `take` binds, `ignore` has no meaning for this proxy,
/// `refuse` fails when the field is set. Use in a function that returns [`Checked`].
macro_rules! fields {
    ($message:expr, $at:expr => $type:path {
        take: $($take:ident),* $(,)? ;
        ignore: $($ignore:ident),* $(,)? ;
        refuse: $($refuse:ident),* $(,)?
    }) => {
        let $type { $($take,)* $($ignore: _,)* $($refuse,)* } = $message;
        $( $at.field(stringify!($refuse)).refuse_if_set($refuse)?; )*
    };
}
pub(crate) use fields;

/// A duration that is not negative.
pub(crate) fn duration(value: &mesh_xds_proto::Duration, at: At<'_>) -> Checked<Duration> {
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(value.seconds), u32::try_from(value.nanos)) else {
        return Err(at.refuse("a duration here must not be negative"));
    };
    // Beyond this, sums with the current time overflow in places; it is 30 years.
    Ok(Duration::new(seconds.min(1_000_000_000), nanos.min(999_999_999)))
}

/// An optional duration where zero switches the limit off: absent gives `default`.
pub(crate) fn timeout(
    value: &Option<mesh_xds_proto::Duration>,
    default: Option<Duration>,
    at: At<'_>,
) -> Checked<Option<Duration>> {
    match value {
        None => Ok(default),
        Some(value) => Ok(Some(duration(value, at)?).filter(|timeout| !timeout.is_zero())),
    }
}

/// The value of a wrapped bool, absent being false.
pub(crate) fn flag(value: &Option<mesh_xds_proto::BoolValue>) -> bool {
    value.as_ref().is_some_and(|value| value.value)
}

/// The value of a wrapped integer.
pub(crate) fn number(value: &Option<mesh_xds_proto::UInt32Value>) -> Option<u32> {
    value.as_ref().map(|value| value.value)
}
