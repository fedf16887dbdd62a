//! What a translator returns.

use serde::Serialize;

use super::{Listener, ListenerKey, Route};
use crate::address::AddressClaim;
use crate::condition::{ConditionIntent, Note};

/// Rows made from one kind of objects. Several fragments are put together before they are resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fragments {
    /// Sorted by key.
    pub listeners: Vec<Listener>,
    /// Sorted by origin.
    pub routes: Vec<Route>,
    /// Addresses that the listeners' objects ask for, one claim an object, sorted by origin.
    pub claims: Vec<AddressClaim>,
}

impl Fragments {
    /// Puts another's rows behind these.
    pub fn extend(&mut self, other: Self) {
        self.listeners.extend(other.listeners);
        self.routes.extend(other.routes);
        self.claims.extend(other.claims);
    }
}

/// How many routes a listener took, for the Gateway's status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttachedRoutes {
    /// The listener.
    pub listener: ListenerKey,
    /// Routes accepted by it.
    pub count: u32,
    /// Kinds it takes, such as `HTTPRoute`; empty when none of those asked for is supported.
    pub supported_kinds: Vec<String>,
}

/// The outcome of a translation: total (bad input makes conditions, never an error), and the same bytes
/// for the same input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Translation {
    /// Rows.
    pub fragments: Fragments,
    /// Conditions of the objects, sorted.
    pub conditions: Vec<ConditionIntent>,
    /// Events about the objects, sorted.
    pub notes: Vec<Note>,
    /// Attached routes of every listener of a Gateway of ours, sorted by key.
    pub attached: Vec<AttachedRoutes>,
}
