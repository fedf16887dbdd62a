//! Scenarios end to end: real programs, real kernel, real sockets.

mod bad_input;
mod command_line;
mod edits;
mod envoy;
mod faults;
mod fixture;
mod node;
mod nodes;
mod pods;
mod port_clash;
mod redirection;
