//! Scenarios end to end: real programs, real kernel, real sockets.

mod bad_input;
mod edits;
mod faults;
mod fixture;
mod port_clash;
mod redirection;
