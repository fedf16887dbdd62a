//! Cheap random numbers for choices that need no secrecy, one generator a thread.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher};

thread_local! {
    static STATE: Cell<u64> = Cell::new(std::collections::hash_map::RandomState::new().build_hasher().finish() | 1);
}

/// 64 random bits (splitmix64). A few nanoseconds, no lock.
pub fn bits() -> u64 {
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        state.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    })
}

/// Evenly from zero up to, not including, `limit`, which must not be zero.
pub fn below(limit: u32) -> u32 {
    ((u128::from(bits()) * u128::from(limit)) >> 64) as u32
}
