//! A cluster's objects, read from an API server that does everything that API servers do.

// The lint's exception for tests does not reach the helpers that tests call.
#![allow(clippy::unwrap_used)]

mod access;
mod faults;
mod fixture;
mod follow;
mod write;
