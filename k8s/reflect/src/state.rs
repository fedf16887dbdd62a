//! What is known of the cluster at one moment.

use std::sync::Arc;
use std::time::Instant;

use imbl::OrdMap;
use jiff::Timestamp;
use mesh_k8s_api::{ObjectSet, Severity};
use mesh_model::ObjectKey;
use mesh_model::address::AddressAssignments;
use serde_json::Value;

use crate::failure::Failure;
use crate::scope::Scope;

/// Everything that was read, at one moment.
#[derive(Clone, Debug)]
pub struct ApiState {
    /// The objects. Unchanged ones are shared with the state before.
    pub objects: Arc<ObjectSet>,
    /// What is wrong with objects, in the order of their keys.
    pub problems: Arc<Vec<Problem>>,
    /// The addresses that Ingresses and Gateways have by their statuses.
    pub addresses: Arc<AddressAssignments>,
    /// Statuses as they are in the cluster; empty unless they were asked for.
    pub statuses: OrdMap<ObjectKey, Arc<WrittenStatus>>,
    /// How each watch does, in the order of kinds.
    pub watches: Arc<Vec<WatchState>>,
    /// Address of the API server that is asked.
    pub server: String,
    /// Rises with each change of objects, problems or addresses. 0 until everything was read once.
    pub revision: u64,
    /// When the first of the events that led to this revision came.
    pub read_at: Instant,
}

/// How one watch does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchState {
    /// What is watched.
    pub scope: Scope,
    /// How.
    pub phase: Phase,
}

/// A watch's progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not everything was read yet.
    Reading,
    /// Followed as it changes.
    Live,
    /// The cluster has no such kind; looked for again from time to time.
    Absent,
    /// It cannot be read now. What was read before stays.
    Failing {
        /// Since when.
        since: Timestamp,
        /// Whether it was read before.
        was_read: bool,
        /// Why.
        failure: Failure,
    },
}

impl Phase {
    /// Whether what there is of it is known, perhaps not its newest state.
    pub fn is_read(&self) -> bool {
        match self {
            Self::Live | Self::Absent => true,
            Self::Reading => false,
            Self::Failing { was_read, .. } => *was_read,
        }
    }
}

/// Something wrong with an object. It never holds a value out of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object.
    pub object: ObjectKey,
    /// Field path, empty for the whole.
    pub field: String,
    /// Weight.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

/// The status of an object as the cluster has it.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenStatus {
    /// Version of the API it was read in.
    pub api_version: &'static str,
    /// Version of the object it was read with.
    pub resource_version: String,
    /// `status`; null when there is none.
    pub status: Value,
}
