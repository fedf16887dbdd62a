//! A folder on a real file system, watched.

// The lint's exception for tests does not reach the helpers that tests call.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod changes;
mod fixture;
mod latency;
mod layout;
