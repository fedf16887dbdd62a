//! What an API server sends: pages of lists, and lines of watches.

use serde::Deserialize;
use serde_json::Value;

/// Marks the bookmark after the last object of a list that is streamed.
const END_OF_LIST: &str = "k8s.io/initial-events-end";

/// A line of a watch.
#[derive(Deserialize)]
pub(crate) struct Event {
    #[serde(rename = "type")]
    pub(crate) kind: EventKind,
    pub(crate) object: Value,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum EventKind {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

/// A page of a list.
#[derive(Deserialize)]
pub(crate) struct List {
    #[serde(default)]
    pub(crate) metadata: ListMetadata,
    // An API server leaves null where there is nothing.
    pub(crate) items: Option<Vec<Value>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListMetadata {
    pub(crate) resource_version: Option<String>,
    #[serde(rename = "continue")]
    pub(crate) more: Option<String>,
}

impl Event {
    /// Whether it is the bookmark after the last object of a list.
    pub(crate) fn ends_list(&self) -> bool {
        self.kind == EventKind::Bookmark && self.object["metadata"]["annotations"][END_OF_LIST] == "true"
    }
}
