//! One value of a list or an event to one object, trimmed to what is used.

use std::net::IpAddr;
use std::sync::Arc;

use mesh_k8s_api::{Facts, Finding, Kind, Object, Severity, Source, normalise};
use mesh_model::{NamespacedName, ObjectKey};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::state::{Problem, WrittenStatus};

/// What came of one object.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Which.
    pub(crate) name: NamespacedName,
    /// The object; `None`: it was refused, and its last good version stays.
    pub(crate) object: Option<Object>,
    /// What is wrong with it.
    pub(crate) problems: Vec<Problem>,
    /// The addresses that its status says it has.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its status as it is in the cluster, where that is wanted.
    pub(crate) status: Option<Arc<WrittenStatus>>,
}

/// Parts of `metadata` that nothing is made of.
const UNUSED: [&str; 5] = ["resourceVersion", "selfLink", "finalizers", "ownerReferences", "generateName"];

impl Item {
    /// Namespace and name of a value; empty where it has none.
    pub(crate) fn name_of(value: &Value) -> NamespacedName {
        let text = |field| value["metadata"][field].as_str().unwrap_or_default();
        NamespacedName::new(text("namespace"), text("name"))
    }

    /// `metadata.resourceVersion`.
    pub(crate) fn version_of(value: &Value) -> Option<&str> {
        value["metadata"]["resourceVersion"].as_str().filter(|version| !version.is_empty())
    }

    /// Decodes and checks an object, with the rules that hold for an object of a folder. Never fails: what is
    /// wrong becomes a problem.
    ///
    /// `keep_status` is the API version the object was read in, where its status is wanted.
    pub(crate) fn read(kind: Kind, mut value: Value, keep_status: Option<&'static str>) -> Self {
        let name = Self::name_of(&value);
        let version = Self::version_of(&value).unwrap_or_default().to_owned();
        let addresses = addresses(kind, &value["status"]);
        let status = keep_status.filter(|_| has_status(kind)).map(|api_version| {
            // Of most kinds it is in no object.
            let status = match kind {
                Kind::CiliumNode => value.get("status").cloned(),
                _ => value.get_mut("status").map(Value::take),
            };
            let status = status.unwrap_or_default();
            Arc::new(WrittenStatus { api_version, resource_version: version.clone(), status })
        });
        normalise(kind, &mut value);
        let facts = facts(&value, &version);
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            trim(kind, metadata);
        }
        let mut findings = Vec::new();
        let object = Object::decode(kind, value, |_| facts, &mut findings);
        let key = ObjectKey::new(kind.group(), kind.as_str(), name.clone());
        let problems = findings
            .into_iter()
            .filter(|finding| finding.severity == Severity::Error || is_written_by_people(kind))
            .map(|finding| problem(&key, finding, object.is_some()))
            .collect();
        Self { name, object, problems, addresses, status }
    }

    /// A problem of something that has no name.
    pub(crate) fn nameless(kind: Kind) -> Problem {
        let key = ObjectKey::new(kind.group(), kind.as_str(), NamespacedName::default());
        let failure = Failure::broken("the API server sent an object without a name; it is passed over");
        Problem {
            object: key,
            field: "metadata.name".to_owned(),
            severity: Severity::Error,
            message: failure.message,
            fix: failure.fix,
        }
    }
}

/// The addresses of an Ingress or a Gateway, as the operator wrote them; what is no address is passed over.
fn addresses(kind: Kind, status: &Value) -> Vec<IpAddr> {
    let (list, field) = match kind {
        Kind::Ingress => (&status["loadBalancer"]["ingress"], "ip"),
        Kind::Gateway => (&status["addresses"], "value"),
        _ => return Vec::new(),
    };
    let entries = list.as_array().into_iter().flatten();
    entries.filter_map(|entry| entry[field].as_str()?.parse().ok()).collect()
}

/// A Secret has no generation, nor has a Service: theirs is the number of the version, as far as it is one.
fn facts(value: &Value, version: &str) -> Facts {
    let metadata = &value["metadata"];
    let generation = metadata["generation"].as_i64().or_else(|| version.parse().ok());
    Facts {
        source: Source::Api,
        uid: metadata["uid"].as_str().unwrap_or_default().to_owned(),
        generation: generation.unwrap_or(1),
    }
}

fn trim(kind: Kind, metadata: &mut Map<String, Value>) {
    metadata.retain(|field, _| !UNUSED.contains(&field.as_str()));
    // Controllers write much into these, and nothing reads them: `last-change-trigger-time` alone makes each
    // version of an EndpointSlice another one.
    if matches!(kind, Kind::EndpointSlice | Kind::Secret | Kind::Node | Kind::Pod) {
        metadata.remove("annotations");
    }
}

/// Kinds that people write: an unknown field there may be a mistake. In the others it is one that a newer API
/// server fills in by itself.
fn is_written_by_people(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Namespace
            | Kind::Node
            | Kind::Secret
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::CiliumNode
            | Kind::Pod
            | Kind::CiliumIdentity
            | Kind::CiliumEndpoint
    )
}

/// Kinds whose status Millrace writes.
fn has_status(kind: Kind) -> bool {
    matches!(kind, Kind::Ingress | Kind::GatewayClass | Kind::Gateway | Kind::HttpRoute | Kind::CiliumNode)
}

fn problem(key: &ObjectKey, finding: Finding, is_served: bool) -> Problem {
    let message = match is_served {
        true => finding.message,
        false => format!("{}; its last good version, if there is one, stays served", finding.message),
    };
    Problem {
        object: key.clone(),
        field: finding.path.to_string(),
        severity: finding.severity,
        message,
        fix: finding.fix,
    }
}

#[cfg(test)]
mod tests;
