//! What the agent's socket answers from: the last state, swapped in whole.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mesh_tables::Database;
use mesh_xds::server::{ResourceCache, ServerHandle};
use mesh_xds_proto::redact;
use serde_json::{Value, json};

use crate::api::Inspect;
use crate::datapath::Datapath;
use crate::status::Documents;

/// Health of one part.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct PartHealth {
    /// Name of the part.
    pub(crate) name: &'static str,
    /// `ok`, `degraded` or `off`.
    pub(crate) state: &'static str,
    /// What is wrong and how to mend it, or a fact worth knowing.
    pub(crate) detail: String,
}

impl PartHealth {
    /// A part that works.
    pub(crate) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: "ok", detail: detail.into() }
    }

    /// A part that needs attention.
    pub(crate) fn degraded(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: "degraded", detail: detail.into() }
    }

    /// A part that is switched off here.
    pub(crate) fn off(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: "off", detail: detail.into() }
    }
}

/// The state of one moment.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Objects with their status.
    pub(crate) documents: Documents,
    /// Parts.
    pub(crate) parts: Vec<PartHealth>,
    /// What is wrong with manifests and objects, for people.
    pub(crate) problems: Vec<String>,
}

impl State {
    /// Before the first objects were taken.
    pub(crate) fn starting() -> Self {
        let parts =
            vec![PartHealth::degraded("manifests", "the agent has just started and not read them yet")];
        Self { documents: Documents::default(), parts, problems: Vec::new() }
    }
}

/// Everything that can be looked at from outside.
pub(crate) struct View {
    /// Last state.
    pub(crate) state: ArcSwap<State>,
    /// Tables.
    pub(crate) database: Arc<Database>,
    /// What the proxy is sent.
    pub(crate) cache: ResourceCache,
    /// What the proxy says.
    pub(crate) server: ServerHandle,
    /// Kernel programs, where this agent has any.
    pub(crate) datapath: Option<Arc<Datapath>>,
}

impl Inspect for View {
    fn objects(&self, kind: &str) -> Option<Vec<Value>> {
        const KNOWN: [&str; 4] = ["ingress", "gateway", "gatewayclass", "httproute"];
        if !KNOWN.contains(&kind) {
            return None;
        }
        Some(self.state.load().documents.by_kind.get(kind).cloned().unwrap_or_default())
    }

    fn status(&self) -> Value {
        let state = self.state.load();
        let mut parts = state.parts.clone();
        parts.extend(self.datapath.as_ref().map(|datapath| datapath.health()));
        let healthy = parts.iter().all(|part| part.state != "degraded");
        json!({
            "healthy": healthy,
            "version": env!("CARGO_PKG_VERSION"),
            "parts": parts,
            "problems": state.problems,
        })
    }

    fn dump(&self, part: &str) -> Option<Value> {
        match part {
            "tables" => Some(self.database.snapshot().dump()),
            "xds" => Some(self.resources()),
            "clients" => Some(self.clients()),
            "plan" => self.datapath.as_ref().map(|datapath| datapath.plan()),
            "counters" => self.datapath.as_ref().map(|datapath| datapath.counters()),
            "maps" => self.datapath.as_ref().map(|datapath| datapath.maps()),
            _ => None,
        }
    }
}

impl View {
    fn resources(&self) -> Value {
        let snapshot = self.cache.snapshot();
        let resources = snapshot.iter().map(|(type_url, name, resource)| {
            let body = redact::encode_any(&resource.body);
            json!({"type": type_url, "name": name, "version": resource.version, "resource": body})
        });
        json!({"revision": snapshot.revision(), "resources": resources.collect::<Vec<_>>()})
    }

    fn clients(&self) -> Value {
        let clients = self.server.clients().into_iter().map(|client| {
            let types = client.types.iter().map(|(type_url, status)| {
                let refused: serde_json::Map<String, Value> = status
                    .rejected
                    .iter()
                    .map(|(name, nack)| {
                        (name.clone(), json!({"version": nack.version, "reason": nack.message}))
                    })
                    .collect();
                json!({"type": type_url, "acknowledged": status.acked, "refused": refused})
            });
            json!({
                "node": client.node_id,
                "pid": client.pid,
                "connectedSeconds": client.since.elapsed().as_secs(),
                "settledRevision": client.settled,
                "types": types.collect::<Vec<_>>(),
            })
        });
        Value::Array(clients.collect())
    }
}
