//! Server and client over a unix socket in `delta_ads`; resolving, lowering and golden files in the others.

// Clippy knows tests by their attribute; the helpers in the harness are tests too.
#![allow(clippy::unwrap_used)]

mod delta_ads;
mod envoy;
mod golden;
mod harness;
// Objects as the translators' own tests read them.
#[expect(dead_code, reason = "they read it from text as well")]
#[path = "../../../ingress/tests/it/load.rs"]
mod load;
mod lower;
mod mesh;
mod patches;
mod properties;
mod proxy;
mod resolve;
mod tenants;
