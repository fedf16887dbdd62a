//! One object, asked for now: for what is neither followed nor written.

use std::time::Duration;

use http::Request;
use serde_json::Value;
use tokio::time::timeout;

use crate::access::{AccessError, ApiServer};
use crate::body::whole;
use crate::connection::Connection;
use crate::failure::{Cause, Failure};

/// Longest answer.
const LIMIT: usize = 4 << 20;
/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(10);

/// A way to ask an API server.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

impl Reader {
    /// Reads the access; connects to nothing yet.
    ///
    /// # Errors
    /// The access cannot be used.
    pub async fn new(server: ApiServer) -> Result<Self, AccessError> {
        Ok(Self { connection: Connection::new(server).await? })
    }

    /// The object at a path of the API; `what` names verb and resource, as a rule of a role would.
    ///
    /// # Errors
    /// There is none, or the server does not give it.
    pub async fn get(&self, path: &str, what: &str) -> Result<Value, Failure> {
        let request = Request::get(path).body(Vec::new());
        let request = request.map_err(|error| Failure::broken(error.to_string()))?;
        let current = self.connection.current();
        let answer = match current.ask(request, WITHIN, what).await {
            Ok(answer) => answer,
            Err(failure) => {
                if failure.asks_for_another_connection() {
                    // The failure is told; the old client stays where there is no other.
                    let _ = self.connection.renew(&current).await;
                }
                return Err(failure);
            }
        };
        let late = || Failure::new(Cause::Unreachable, format!("{what}: no answer"), "look at its load");
        let body = timeout(WITHIN, whole(answer, LIMIT)).await.map_err(|_| late())??;
        serde_json::from_slice(&body).map_err(|error| Failure::broken(format!("{what}: {error}")))
    }
}
