//! One parsed value to one typed object, with everything an API server would find wrong with it.

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Secret as WireSecret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cilium_endpoint::{CiliumEndpoint, CiliumIdentity};
use crate::cilium_node::CiliumNode;
use crate::finding::{Finding, Severity};
use crate::gateway::{Gateway, GatewayClass, HttpRoute, ReferenceGrant};
use crate::kind::Kind;
use crate::lb_pool::LbPool;
use crate::object::Object;
use crate::path::{FieldPath, Step};
use crate::secret::Secret;
use crate::stored::{Resource, Source, Stored};
use crate::validate::{self, Check};

/// What a reader knows of an object beside its content, see [`Stored`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Where it was read.
    pub source: Source,
    /// Its uid.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
}

impl Object {
    /// Decodes and checks a value of this kind, which went through [`normalise`]. `facts` is asked only where
    /// the object is good.
    ///
    /// `None` when the object is refused; why is then among the findings. Fields that the type does not have
    /// are findings too, but only warnings, as they are for an API server. No finding holds a value of a Secret.
    pub fn decode(
        kind: Kind,
        value: Value,
        facts: impl FnOnce(&ObjectMeta) -> Facts,
        findings: &mut Vec<Finding>,
    ) -> Option<Self> {
        match kind {
            Kind::Namespace => finish::<Namespace>(value, facts, findings),
            Kind::Node => finish::<Node>(value, facts, findings),
            Kind::Secret => finish_with(value, facts, findings, |wire: WireSecret| Secret::from(wire)),
            Kind::Service => finish::<Service>(value, facts, findings),
            Kind::EndpointSlice => finish::<EndpointSlice>(value, facts, findings),
            Kind::IngressClass => finish::<IngressClass>(value, facts, findings),
            Kind::Ingress => finish::<Ingress>(value, facts, findings),
            Kind::GatewayClass => finish::<GatewayClass>(value, facts, findings),
            Kind::Gateway => finish::<Gateway>(value, facts, findings),
            Kind::HttpRoute => finish::<HttpRoute>(value, facts, findings),
            Kind::ReferenceGrant => finish::<ReferenceGrant>(value, facts, findings),
            Kind::LbPool => finish::<LbPool>(value, facts, findings),
            Kind::CiliumNode => finish::<CiliumNode>(value, facts, findings),
            Kind::Pod => finish::<Pod>(value, facts, findings),
            Kind::CiliumIdentity => finish::<CiliumIdentity>(value, facts, findings),
            Kind::CiliumEndpoint => finish::<CiliumEndpoint>(value, facts, findings),
        }
    }
}

/// Makes `value` what translators take: nulls gone, managed fields, the copy that `kubectl apply` leaves and the
/// status gone (a Service keeps its status: the addresses it was given are in it; a Node its addresses; a
/// CiliumNode what is said of its ranges; a CiliumEndpoint who and where it is), of a Pod all but its account and node, no
/// namespace on a kind that has none. True when a namespace was taken out.
pub fn normalise(kind: Kind, value: &mut Value) -> bool {
    remove_nulls(value);
    let Some(object) = value.as_object_mut() else { return false };
    match kind {
        Kind::Service => {}
        Kind::CiliumEndpoint => {
            if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
                status
                    .retain(|field, _| matches!(field.as_str(), "id" | "identity" | "networking" | "state"));
            }
        }
        Kind::Pod => {
            object.remove("status");
            if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
                spec.retain(|field, _| {
                    matches!(field.as_str(), "nodeName" | "serviceAccountName" | "hostNetwork")
                });
            }
        }
        // The rest is written anew every few minutes, and is as much as all other fields together.
        Kind::Node => {
            if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
                status.retain(|field, _| field == "addresses");
            }
        }
        Kind::CiliumNode => {
            if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
                status.retain(|field, _| field == "ipam");
            }
            if let Some(ipam) = object.get_mut("status").and_then(|status| status["ipam"].as_object_mut()) {
                ipam.retain(|field, _| matches!(field.as_str(), "pod-cidrs" | "operator-status"));
            }
        }
        _ => drop(object.remove("status")),
    }
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return false };
    metadata.remove("managedFields");
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    !kind.namespaced() && metadata.remove("namespace").is_some()
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, part| !part.is_null());
            map.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

fn finish<T>(
    value: Value,
    facts: impl FnOnce(&ObjectMeta) -> Facts,
    findings: &mut Vec<Finding>,
) -> Option<Object>
where
    T: DeserializeOwned + Resource + Check,
    Object: From<Stored<T>>,
{
    finish_with(value, facts, findings, |object: T| object)
}

fn finish_with<W, T>(
    value: Value,
    facts: impl FnOnce(&ObjectMeta) -> Facts,
    findings: &mut Vec<Finding>,
    convert: impl FnOnce(W) -> T,
) -> Option<Object>
where
    W: DeserializeOwned,
    T: Resource + Check,
    Object: From<Stored<T>>,
{
    let before = findings.len();
    let object = convert(typed(T::KIND, value, findings)?);
    validate::check(&object, findings);
    if findings[before..].iter().any(|finding| finding.severity == Severity::Error) {
        return None;
    }
    let Facts { source, uid, generation } = facts(object.metadata());
    let created = object.metadata().creation_timestamp.as_ref();
    let created_ms = created.map_or(i64::MAX, |time| time.0.as_millisecond());
    Some(Object::from(Stored { object, source, uid, generation, created_ms }))
}

fn typed<W: DeserializeOwned>(kind: Kind, value: Value, findings: &mut Vec<Finding>) -> Option<W> {
    let explain = |path: &FieldPath| {
        let top = kind.as_str().to_ascii_lowercase();
        let names = path.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        });
        std::iter::once(top.as_str()).chain(names).collect::<Vec<_>>().join(".")
    };
    let mut track = serde_path_to_error::Track::new();
    let mut unknown = |path: serde_ignored::Path<'_>| {
        let path = FieldPath::of_ignored(&path);
        let at_top = path.0.len() == 1;
        // The types of custom resources take these two from elsewhere.
        if at_top && matches!(path.to_string().as_str(), "apiVersion" | "kind") {
            return;
        }
        findings.push(Finding {
            severity: Severity::Warning,
            message: "there is no such field; the object is served without it".to_owned(),
            fix: format!(
                "correct its spelling or place, or remove it (`kubectl explain {}`)",
                explain(&path)
            ),
            path,
        });
    };
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let result = W::deserialize(serde_ignored::Deserializer::new(tracked, &mut unknown));
    let error = match result {
        Ok(object) => return Some(object),
        Err(error) => error,
    };
    let path = FieldPath::of_error(&track.path());
    // The decoder's words can quote the value, and a Secret's must not be shown.
    let (message, fix) = if kind == Kind::Secret {
        (
            "this cannot be read: values under `data` are Base64, those under `stringData` plain text"
                .to_owned(),
            "encode the value with `base64 -w0`, or move the plain text to `stringData`".to_owned(),
        )
    } else {
        (
            error.to_string(),
            format!(
                "write what the field takes (`kubectl explain {}`); quote what is meant as text",
                explain(&path)
            ),
        )
    };
    findings.push(Finding { path, severity: Severity::Error, message, fix });
    None
}
