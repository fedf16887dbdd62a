//! What the agent's socket answers from: the last state, swapped in whole, and the parts that can be asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use mesh_k8s_api::{Kind, Object, ObjectSet};
use mesh_l7proxy_wire::StarterStatus;
use mesh_tables::Database;
use mesh_xds::server::{ResourceCache, ServerHandle};
use mesh_xds_proto::redact;
use serde_json::{Value, json};

use crate::datapath::Datapath;
use crate::events::EventLog;
use crate::health::PartHealth;
use crate::nodes::NodesReport;
use crate::pod_network::PodNetwork;
use crate::services::{ServiceIds, ServiceRow};
use crate::state::State;
use crate::{admin, bpf, describe, objects, processes, services, status};

/// The commit it was built from, where the build told.
const COMMIT: Option<&str> = option_env!("MILLRACE_BUILD_COMMIT");

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is nothing of that name.
    NotFound(String),
    /// Several things have the name.
    Ambiguous(String),
    /// This agent has no such part, or the part does not answer.
    Unavailable(String),
}

/// Everything that can be looked at from outside.
pub(crate) struct View {
    /// When the agent began.
    pub(crate) started: Instant,
    /// Last state.
    pub(crate) state: ArcSwap<State>,
    /// The proxy's processes, as of the last look; `None` while no starter answers.
    pub(crate) processes: ArcSwapOption<StarterStatus>,
    /// Tables.
    pub(crate) database: Arc<Database>,
    /// What the proxy is sent.
    pub(crate) cache: ResourceCache,
    /// What the proxy says.
    pub(crate) server: ServerHandle,
    /// Kernel programs, where this agent has any.
    pub(crate) datapath: Option<Arc<Datapath>>,
    /// The pods' network, where this agent makes it.
    pub(crate) pods: Option<Arc<PodNetwork>>,
    /// The cluster's nodes.
    pub(crate) nodes: Arc<NodesReport>,
    /// Folder of the sockets.
    pub(crate) run_dir: PathBuf,
    /// What happens.
    pub(crate) events: EventLog,
}

impl View {
    /// Version and commit.
    pub(crate) fn version() -> Value {
        json!({"version": env!("CARGO_PKG_VERSION"), "commit": COMMIT})
    }

    /// All parts, those included that are asked now.
    pub(crate) fn parts(&self) -> Vec<PartHealth> {
        let mut parts = self.state.load().parts.clone();
        parts.insert(parts.len().min(1), processes::health(self.processes.load().as_deref()));
        parts.extend(self.datapath.as_ref().map(|datapath| datapath.health()));
        // An agent that makes no pods' network has no use for them.
        parts.extend(self.pods.as_ref().map(|_| self.nodes.health()));
        parts.extend(self.pods.as_ref().map(|pods| pods.health()));
        parts
    }

    /// The pods of this node that this agent made the network of, and how full its ranges are.
    pub(crate) fn endpoints(&self) -> Result<Value, Refusal> {
        let none = || {
            Refusal::Unavailable(
                "this agent makes no pods' network: it has neither --ipam nor --ipv4-range".to_owned(),
            )
        };
        let pods = self.pods.as_ref().ok_or_else(none)?;
        Ok(json!({"endpoints": pods.list(), "ranges": pods.usage()}))
    }

    /// Health of the parts, and problems.
    pub(crate) fn status(&self) -> Value {
        let parts = self.parts();
        let state = self.state.load();
        json!({
            "healthy": parts.iter().all(|part| part.state != "degraded"),
            "version": env!("CARGO_PKG_VERSION"),
            "commit": COMMIT,
            "mode": if self.datapath.is_some() { "redirect" } else { "plain" },
            "uptimeSeconds": self.started.elapsed().as_secs(),
            "parts": parts,
            "problems": state.problems,
        })
    }

    /// The same, and everything that explains it: objects, the proxy's processes and streams, what the kernel
    /// can, what was chosen and why, and how full the maps are. Blocks for system calls in the number of map
    /// entries.
    pub(crate) fn status_in_full(&self) -> Value {
        let mut status = self.status();
        status["objects"] = json!(describe::counts(&self.state.load()));
        status["processes"] = json!(self.processes.load().as_deref());
        status["revision"] = json!(self.cache.snapshot().revision());
        status["clients"] = self.clients();
        status["datapath"] = match &self.datapath {
            Some(datapath) => {
                let mut shown = datapath.plan();
                shown["maps"] = json!(bpf::overview(datapath.pin_root()).ok());
                shown
            }
            None => Value::Null,
        };
        status
    }

    /// Objects of a kind; of kinds that have a status those that are ours.
    pub(crate) fn objects(&self, kind: &str) -> Result<Vec<Value>, Refusal> {
        let state = self.state.load();
        let found = find_kind(kind)?;
        if objects::has_status(found) {
            return Ok(status::documents(&state.known(), found));
        }
        let of_kind = state.objects.iter().filter(|object| object.kind() == found);
        Ok(of_kind.map(|object| objects::document(&object)).collect())
    }

    /// An object and all that follows from it. Without a namespace the only object of that name is meant.
    pub(crate) fn describe(&self, kind: &str, namespace: Option<&str>, name: &str) -> Result<Value, Refusal> {
        let kind = find_kind(kind)?;
        let state = self.state.load_full();
        let object = find_object(&state.objects, kind, namespace, name)?;
        let name = object.name();
        let document = status::documents(&state.known(), kind).into_iter().find(|document| {
            let metadata = &document["metadata"];
            metadata["name"] == name.name && (!kind.namespaced() || metadata["namespace"] == name.namespace)
        });
        let document = document.unwrap_or_else(|| objects::document(&object));
        let rows = services::rows(&state, &self.service_ids());
        Ok(describe::describe(&state, &object, document, &rows))
    }

    /// Rows of `service list`.
    pub(crate) fn services(&self) -> Vec<ServiceRow> {
        services::rows(&self.state.load(), &self.service_ids())
    }

    /// Without a kernel, and while its map cannot be read, no row has an identifier.
    fn service_ids(&self) -> ServiceIds {
        let datapath = self.datapath.as_ref();
        datapath.and_then(|datapath| bpf::service_ids(datapath.pin_root()).ok()).unwrap_or_default()
    }

    /// All maps, or the rows of one.
    pub(crate) fn map(&self, name: Option<&str>) -> Result<Vec<Value>, Refusal> {
        let Some(datapath) = &self.datapath else {
            let why = "this agent programs no kernel maps: it serves plain listeners; as root, or with \
                       --redirect=on, it redirects";
            return Err(Refusal::Unavailable(why.to_owned()));
        };
        let unreadable = |error: mesh_ebpf_maps::MapError| Refusal::Unavailable(chain(&error));
        match name {
            None => bpf::overview(datapath.pin_root()).map_err(unreadable),
            Some(name) => bpf::rows(datapath.pin_root(), name)
                .map_err(unreadable)?
                .ok_or_else(|| Refusal::NotFound(format!("no map is called {name}"))),
        }
    }

    /// What the proxy's admin socket answers: JSON, as it came.
    pub(crate) async fn proxy(&self, what: &str) -> Result<Bytes, Refusal> {
        let Some(path) = admin::path_of(what) else {
            return Err(Refusal::NotFound(format!("the proxy cannot be asked for {what}")));
        };
        let socket = self.run_dir.join("proxy-admin.sock");
        admin::ask(&socket, path).await.map_err(|error| Refusal::Unavailable(format!("{error:#}")))
    }

    /// Rows that should be in the kernel.
    pub(crate) fn tables(&self) -> Value {
        self.database.snapshot().dump()
    }

    /// What the proxy is sent, without secrets.
    pub(crate) fn resources(&self) -> Value {
        let snapshot = self.cache.snapshot();
        let resources = snapshot.iter().map(|(type_url, name, resource)| {
            let body = redact::encode_any(&resource.body);
            json!({"type": type_url, "name": name, "version": resource.version, "resource": body})
        });
        json!({"revision": snapshot.revision(), "resources": resources.collect::<Vec<_>>()})
    }

    /// Who takes configuration, and how far each is.
    pub(crate) fn clients(&self) -> Value {
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
                "protocol": client.protocol.name(),
                "connectedSeconds": client.since.elapsed().as_secs(),
                "settledRevision": client.settled,
                "types": types.collect::<Vec<_>>(),
            })
        });
        Value::Array(clients.collect())
    }
}

fn find_object(
    objects: &ObjectSet,
    kind: Kind,
    namespace: Option<&str>,
    name: &str,
) -> Result<Object, Refusal> {
    let is_meant = |object: &Object| {
        let found = object.name();
        let in_namespace =
            namespace.is_none_or(|namespace| !kind.namespaced() || found.namespace == namespace);
        object.kind() == kind && found.name == name && in_namespace
    };
    let mut found: Vec<Object> = objects.iter().filter(is_meant).collect();
    match found.len() {
        0 => {
            let place = namespace.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
            Err(Refusal::NotFound(format!("the agent has read no {kind} {name}{place}")))
        }
        1 => Ok(found.remove(0)),
        _ => {
            let namespaces: Vec<String> = found.iter().map(|object| object.name().namespace).collect();
            let namespaces = namespaces.join(", ");
            Err(Refusal::Ambiguous(format!(
                "{kind} {name} is in the namespaces {namespaces}: choose one with -n"
            )))
        }
    }
}

fn find_kind(name: &str) -> Result<Kind, Refusal> {
    objects::kind_of(name)
        .ok_or_else(|| Refusal::NotFound(format!("the agent reads no objects of kind {name}")))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
