//! Real processes: a starter with its worker in a folder of its own, an xDS server and backends in
//! the test. Root is not needed; as root a little more is looked at.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod backend;
mod changes;
mod config;
mod hand_over;
mod harness;
mod http;
mod lifecycle;
mod privileges;
mod secrets;
mod traffic;
mod transparent;
mod upgrade;
