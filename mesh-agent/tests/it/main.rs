//! The program against an API server.

// The lint's exception for tests does not reach the helpers that tests call.
#![allow(clippy::unwrap_used)]

mod chart;
mod fixture;
mod operator;
mod ranges;
mod rules;
mod sources;
