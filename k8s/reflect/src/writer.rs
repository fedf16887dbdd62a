//! Statuses written into the cluster.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http::{Method, Request};
use mesh_k8s_api::Kind;
use mesh_model::ObjectKey;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::access::{AccessError, ApiServer};
use crate::backoff::Backoff;
use crate::body::whole;
use crate::connection::Connection;
use crate::failure::{Cause, Failure};
use crate::scope::Scope;
use crate::state::{ApiState, WrittenStatus};
use crate::status::merged;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Longest answer that is read: the object as it is now.
const ANSWER: usize = 16 << 20;
/// Who writes, for the record of the API server.
const MANAGER: &str = "millrace-operator";
/// After so many objects in a row that the server had a problem with, it is the server's problem.
const BUSY_IN_A_ROW: u32 = 3;
/// How long the first try after a problem of the server waits, and one after many at most.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Writes statuses. Each write is based on a version of the object and fails when there is a newer one; a status that
/// is right is not written.
#[derive(Debug)]
pub struct StatusWriter {
    connection: Connection,
    controllers: Vec<String>,
    /// What was last tried on an object.
    tried: BTreeMap<ObjectKey, Tried>,
}

#[derive(Debug)]
struct Tried {
    /// The version it was based on.
    version: String,
    status: Value,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    /// Written, or not any more what is to be written: the watch brings what is there.
    Over,
    /// Refused; the same is refused again unless somebody does something about it.
    Refused,
    /// The server had a problem. Tried again then.
    Later(Instant, Backoff),
}

/// What came of a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Statuses that were written.
    pub count: usize,
    /// Those that were not.
    pub failed: Vec<NotWritten>,
    /// When some of those are due again: write then, whether or not anything has changed.
    pub again: Option<Instant>,
}

/// A status that was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotWritten {
    /// The object.
    pub object: ObjectKey,
    /// Why.
    pub failure: Failure,
}

impl Tried {
    fn again(&self) -> Option<Instant> {
        match self.outcome {
            Outcome::Later(at, _) => Some(at),
            Outcome::Over | Outcome::Refused => None,
        }
    }
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
    /// unless the server is away or has a problem with one object after the other: then the rest is left to the next
    /// round.
    ///
    /// An object is written at most once for each version of it that `state` has and each status: a round with a state
    /// that does not have the last write yet repeats nothing. What failed is tried again in a round after
    /// [`Written::again`].
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
        let mut busy = 0;
        for (key, current) in &state.statuses {
            let Some((kind, status)) = self.due(key, current, desired) else { continue };
            if !may_write() {
                break;
            }
            let outcome = match self.patch(kind, key, current, &status).await {
                Ok(()) => {
                    written.count += 1;
                    Outcome::Over
                }
                Err(failure) if matches!(failure.cause, Cause::Conflict | Cause::Absent) => Outcome::Over,
                Err(failure) => {
                    let outcome = self.failed(key, &failure);
                    written.failed.push(NotWritten { object: key.clone(), failure });
                    outcome
                }
            };
            // An admission webhook that fails for one namespace is no reason to leave the others waiting.
            busy = if matches!(outcome, Outcome::Later(..)) { busy + 1 } else { 0 };
            let version = current.resource_version.clone();
            self.tried.insert(key.clone(), Tried { version, status, outcome });
            let last = written.failed.last().filter(|failed| failed.object == *key);
            if last.is_some_and(|failed| failed.failure.asks_for_another_connection()) {
                // The failure is told; the old client stays where there is no other.
                let _ = self.connection.renew(&self.connection.current()).await;
                break;
            }
            if busy == BUSY_IN_A_ROW {
                break;
            }
        }
        written.again = self.tried.values().filter_map(Tried::again).min();
        written
    }

    /// What is to be written into an object now, if anything.
    fn due(
        &mut self,
        key: &ObjectKey,
        current: &WrittenStatus,
        desired: &BTreeMap<ObjectKey, Value>,
    ) -> Option<(Kind, Value)> {
        let kind = Kind::find(&key.group, &key.kind)?;
        let nothing = json!({"parents": []});
        let wanted = match desired.get(key) {
            Some(wanted) => wanted,
            None if kind == Kind::HttpRoute => &nothing,
            None => return None,
        };
        let Some(status) = merged(kind, &current.status, wanted, &self.controllers) else {
            self.tried.remove(key);
            return None;
        };
        let same = self
            .tried
            .get(key)
            .filter(|tried| tried.version == current.resource_version && tried.status == status);
        let waits = same.is_some_and(|tried| tried.again().is_none_or(|at| at > Instant::now()));
        (!waits).then_some((kind, status))
    }

    fn failed(&self, key: &ObjectKey, failure: &Failure) -> Outcome {
        if !failure.is_of_server() {
            return Outcome::Refused;
        }
        let mut backoff = match self.tried.get(key).map(|tried| &tried.outcome) {
            Some(Outcome::Later(_, backoff)) => backoff.clone(),
            _ => Backoff::new(FIRST_RETRY, LONGEST_RETRY),
        };
        let wait = backoff.next().max(failure.retry_after.unwrap_or_default());
        Outcome::Later(Instant::now() + wait, backoff)
    }

    /// Lets the next round try again what was refused: whoever may write can change without a change of the object.
    pub fn retry(&mut self) {
        self.tried.retain(|_, tried| !matches!(tried.outcome, Outcome::Refused));
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
        let answer = self.connection.current().ask(request, ANSWER_WITHIN, &what).await?;
        // Of no use but that: over HTTP/1 a connection whose answer was not read serves no other request. The write
        // has happened, whatever becomes of the rest.
        let _ = timeout(ANSWER_WITHIN, whole(answer, ANSWER)).await;
        Ok(())
    }
}
