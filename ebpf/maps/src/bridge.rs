//! The bridge from zerocopy's proofs to aya's promise.
#![allow(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A value whose layout zerocopy has proved to be plain bytes, as aya wants it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Plain<T>(pub(crate) T);

// SAFETY: `Pod` promises that the type may be read from and written to bytes. `IntoBytes` proves that `T`
// has no padding, `FromBytes` that every bit pattern is a `T`, `Immutable` that there is no interior
// mutability; `Plain` is transparent over `T`.
unsafe impl<T: FromBytes + IntoBytes + Immutable + Copy + 'static> aya::Pod for Plain<T> {}
