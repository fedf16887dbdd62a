//! Statuses written into the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, Request};
use mesh_k8s_api::Kind;
use mesh_model::ObjectKey;
use serde_json::{Value, json};

use crate::access::{AccessError, ApiServer};
use crate::connection::Connection;
use crate::failure::{Cause, Failure};
use crate::scope::Scope;
use crate::state::{ApiState, WrittenStatus};
use crate::status::merged;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Who writes, for the record of the API server.
const MANAGER: &str = "millrace-operator";

/// Writes statuses. Each write is based on a version of the object and fails when there is a newer one; a status that
/// is right is not written.
#[derive(Debug)]
pub struct StatusWriter {
    connection: Connection,
    controllers: Vec<String>,
    /// What was last tried on an object.
    tried: BTreeMap<ObjectKey, Tried>,
}

#[derive(Debug, PartialEq)]
struct Tried {
    /// The version it was based on.
    version: String,
    status: Value,
    failed: bool,
}

/// What came of a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Statuses that were written.
    pub count: usize,
    /// Those that were not.
    pub failed: Vec<NotWritten>,
}

/// A status that was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotWritten {
    /// The object.
    pub object: ObjectKey,
    /// Why.
    pub failure: Failure,
}

impl StatusWriter {
    /// Writes for these Gateway API controllers.
    ///
    /// # Errors
    /// The access cannot be used.
    pub async fn new(server: ApiServer, controllers: Vec<String>) -> Result<Self, AccessError> {
        Ok(Self { connection: Connection::new(server).await?, controllers, tried: BTreeMap::new() })
    }

    /// Writes what differs between `desired` and the statuses of `state`, one after the other. A route that nothing is
    /// desired for loses the parents that were written for the controllers. One write that fails holds up no other,
    /// unless the server is away: then the rest is left to the next round.
    ///
    /// An object is written at most once for each version of it that `state` has and each status: a round with a state
    /// that does not have the last write yet repeats nothing.
    ///
    /// Before each write `may_write` is asked, and the round ends when it says no.
    pub async fn write(
        &mut self,
        state: &ApiState,
        desired: &BTreeMap<ObjectKey, Value>,
        may_write: impl Fn() -> bool,
    ) -> Written {
        self.tried.retain(|key, _| state.statuses.contains_key(key));
        let mut written = Written::default();
        for (key, current) in &state.statuses {
            let Some(kind) = Kind::find(&key.group, &key.kind) else { continue };
            let nothing = json!({"parents": []});
            let wanted = match desired.get(key) {
                Some(wanted) => wanted,
                None if kind == Kind::HttpRoute => &nothing,
                None => continue,
            };
            let Some(status) = merged(kind, &current.status, wanted, &self.controllers) else {
                self.tried.remove(key);
                continue;
            };
            let version = current.resource_version.clone();
            if self.tried.get(key).is_some_and(|tried| tried.version == version && tried.status == status) {
                continue;
            }
            if !may_write() {
                break;
            }
            let mut failed = false;
            match self.patch(kind, key, current, &status).await {
                Ok(()) => written.count += 1,
                // The watch brings what is there now, or that nothing is.
                Err(failure) if matches!(failure.cause, Cause::Conflict | Cause::Absent) => {}
                Err(failure) => {
                    failed = true;
                    let is_of_server = failure.is_of_server();
                    if failure.asks_for_another_connection() {
                        // The failure is told; the old client stays where there is no other.
                        let _ = self.connection.renew(&self.connection.current()).await;
                    }
                    written.failed.push(NotWritten { object: key.clone(), failure });
                    if is_of_server {
                        return written;
                    }
                }
            }
            self.tried.insert(key.clone(), Tried { version, status, failed });
        }
        written
    }

    /// Lets the next round try again what was refused: whoever may write can change without a change of the object.
    pub fn retry(&mut self) {
        self.tried.retain(|_, tried| !tried.failed);
    }

    async fn patch(
        &self,
        kind: Kind,
        key: &ObjectKey,
        current: &WrittenStatus,
        status: &Value,
    ) -> Result<(), Failure> {
        let path = Scope::status_path(kind, current.api_version, &key.name);
        let patch = json!({
            "metadata": {"resourceVersion": current.resource_version},
            "status": status,
        });
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(format!("{path}?fieldManager={MANAGER}"))
            .header("content-type", "application/merge-patch+json")
            .body(patch.to_string().into_bytes())
            .map_err(|error| Failure::broken(error.to_string()))?;
        let group = if key.group.is_empty() { String::new() } else { format!(".{}", key.group) };
        let what = format!("patch {}/status{group}", kind.plural());
        self.connection.current().ask(request, ANSWER_WITHIN, &what).await.map(drop)
    }
}
