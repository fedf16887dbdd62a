//! Whole objects written into the cluster: those that agents and the operator own.

use std::time::Duration;

use http::{Method, Request};
use jiff::Timestamp;
use mesh_k8s_api::Kind;
use mesh_model::{NamespacedName, ObjectKey, Severity};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::access::{AccessError, ApiServer};
use crate::body::whole;
use crate::connection::Connection;
use crate::failure::{Cause, Failure};
use crate::scope::Scope;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Longest object: that of etcd (1.5 MiB), with room for what an API server adds.
const LONGEST: usize = 4 << 20;
/// Longest message of an event (`core/v1` Event).
const LONGEST_MESSAGE: usize = 1024;

/// Creates, reads, patches and deletes objects, one request at a time.
#[derive(Debug)]
pub struct ObjectWriter {
    connection: Connection,
    /// Who writes, for the record of the API server.
    manager: &'static str,
}

/// Which part of an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status.
    Object,
    /// The status.
    Status,
}

impl ObjectWriter {
    /// Writes in the name of `manager`.
    ///
    /// # Errors
    /// The access cannot be used.
    pub async fn new(server: ApiServer, manager: &'static str) -> Result<Self, AccessError> {
        Ok(Self { connection: Connection::new(server).await?, manager })
    }

    /// The object as it is; `None`: there is none.
    pub async fn get(&self, kind: Kind, name: &NamespacedName) -> Result<Option<Value>, Failure> {
        let path = Scope::object_path(kind, kind.versions()[0], name);
        match self.ask(Method::GET, &path, "get", &resource(kind, Part::Object), None).await {
            Ok(object) => Ok(Some(object)),
            Err(failure) if failure.cause == Cause::Absent => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Makes a new object; a conflict where there is one of its name.
    pub async fn create(&self, kind: Kind, object: &Value) -> Result<Value, Failure> {
        let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
        let path = Scope { kind, namespace, node: None }.path(kind.versions()[0]);
        self.ask(Method::POST, &path, "create", &resource(kind, Part::Object), Some(object)).await
    }

    /// Merges a patch into it (RFC 7396). With `metadata.resourceVersion` in the patch it is a conflict where somebody
    /// else has written meanwhile.
    pub async fn patch(
        &self,
        kind: Kind,
        name: &NamespacedName,
        part: Part,
        patch: &Value,
    ) -> Result<Value, Failure> {
        let mut path = Scope::object_path(kind, kind.versions()[0], name);
        if part == Part::Status {
            path.push_str("/status");
        }
        self.ask(Method::PATCH, &path, "patch", &resource(kind, part), Some(patch)).await
    }

    /// Deletes the object that has this uid; nothing where it is gone or another one.
    pub async fn delete(&self, kind: Kind, name: &NamespacedName, uid: &str) -> Result<(), Failure> {
        let path = Scope::object_path(kind, kind.versions()[0], name);
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
        match self.ask(Method::DELETE, &path, "delete", &resource(kind, Part::Object), Some(&options)).await {
            Err(failure) if !matches!(failure.cause, Cause::Absent | Cause::Conflict) => Err(failure),
            _ => Ok(()),
        }
    }

    /// Records an event about an object; those of objects without a namespace are in `default`.
    pub async fn event(
        &self,
        about: &ObjectKey,
        uid: &str,
        severity: Severity,
        reason: &str,
        message: &str,
    ) -> Result<(), Failure> {
        let ObjectKey { group, kind, name } = about;
        let namespace = if name.namespace.is_empty() { "default" } else { &name.namespace };
        let version = Kind::find(group, kind).map_or_else(|| "v1".to_owned(), Kind::api_version);
        let (now, mut message) = (Timestamp::now(), message.to_owned());
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": format!("{}.{:x}", name.name, now.as_microsecond()), "namespace": namespace},
            "involvedObject": {
                "apiVersion": version, "kind": kind, "name": name.name, "namespace": name.namespace, "uid": uid,
            },
            "type": match severity {
                Severity::Normal => "Normal",
                Severity::Warning => "Warning",
            },
            "reason": reason,
            "message": message,
            "source": {"component": self.manager},
            "firstTimestamp": format!("{now:.0}"),
            "lastTimestamp": format!("{now:.0}"),
            "count": 1,
        });
        let path = format!("/api/v1/namespaces/{namespace}/events");
        self.ask(Method::POST, &path, "create", "events", Some(&event)).await.map(drop)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        verb: &str,
        resource: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let kind = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let is_write = matches!(method, Method::PATCH | Method::POST);
        let manager = if is_write { format!("?fieldManager={}", self.manager) } else { String::new() };
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}{manager}"))
            .header("content-type", kind)
            .body(body.map(|body| body.to_string().into_bytes()).unwrap_or_default())
            .map_err(|error| Failure::broken(error.to_string()))?;
        let what = format!("{verb} {resource}");
        let connection = self.connection.current();
        let read = async {
            let answer = connection.ask(request, ANSWER_WITHIN, &what).await?;
            let late = || {
                let message = format!("{what}: the answer does not end");
                Failure::new(Cause::Unreachable, message, "look at the load of the API server")
            };
            let body = timeout(ANSWER_WITHIN, whole(answer, LONGEST)).await.map_err(|_| late())??;
            serde_json::from_slice(&body).map_err(|error| Failure::broken(format!("{what}: {error}")))
        };
        let outcome = read.await;
        if outcome.as_ref().is_err_and(Failure::asks_for_another_connection) {
            // The failure is told; the old client stays where there is no other.
            let _ = self.connection.renew(&connection).await;
        }
        outcome
    }
}

/// As a rule of a role names it.
fn resource(kind: Kind, part: Part) -> String {
    let group = if kind.group().is_empty() { String::new() } else { format!(".{}", kind.group()) };
    let status = if part == Part::Status { "/status" } else { "" };
    format!("{}{status}{group}", kind.plural())
}
