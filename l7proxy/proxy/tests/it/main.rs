//! The data path with real sockets on loopback: configuration in, bytes out.

// Clippy lets test functions unwrap, but not the helpers beside them.
#![allow(clippy::unwrap_used)]

mod drain;
mod failures;
mod framing;
mod harness;
mod http1;
mod http2;
mod listeners;
mod observability;
mod proxy_protocol;
mod routing;
mod timeouts;
mod tls;
mod websocket;
