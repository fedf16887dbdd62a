//! Who is behind an address: numeric identities of sets of labels, and the cache of addresses.
//!
//! In: labels of pods and of their namespaces, identities and endpoints as the cluster has them. Out: the labels that
//! count ([`security_labels`]), the number that they have ([`Identities`]), and a row for each address ([`IpcacheRow`]).
//! Pure: no clock, nothing kept; what was given is in the cluster's own objects, so that all agents agree and a new one
//! knows it. Start reading in `labels.rs`.

mod collect;
mod identities;
mod ipcache;
mod labels;
mod reserved;

pub use collect::{Action, Found, Timing, collect};
pub use identities::{Choice, Identities};
pub use ipcache::{EndpointAddresses, IpcacheRow, ipcache};
pub use labels::{LabelFilter, PodLabels, security_labels};
pub use reserved::Reserved;
