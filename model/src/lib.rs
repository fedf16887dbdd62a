//! The vocabulary that every room speaks: plain rows, no behaviour beyond their own invariants.
//!
//! Nothing comes in and nothing goes out: translators make these rows, tables hold them, reconcilers and
//! the xDS lowering read them. Start with [`l7`] (what the proxy shall do) and [`service`] (what is
//! balanced). The crate spawns no tasks, does no I/O and knows neither Kubernetes nor Envoy nor BPF types.
//!
//! Rows can be written out (`Serialize`) for dumps and golden files and are never read back, so their text
//! form may change with the code. Secrets print as a fingerprint.

pub mod address;
pub mod condition;
pub mod l7;
pub mod name;
pub mod node;
pub mod origin;
pub mod secret;
pub mod service;

pub use condition::{ConditionIntent, ConditionScope, ConditionStatus, Note, Severity};
pub use name::{Hostname, NamespacedName};
pub use node::Node;
pub use origin::{ObjectKey, Origin};
