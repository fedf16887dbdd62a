//! Scenarios end to end: real programs, real kernel, real sockets.

mod bad_input;
mod edits;
mod fixture;
mod port_clash;
mod redirection;
