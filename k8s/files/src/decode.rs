//! One parsed value to one typed object.

use std::path::Path;

use mesh_k8s_api::core::{Namespace, Service, WireSecret};
use mesh_k8s_api::discovery::EndpointSlice;
use mesh_k8s_api::gateway::{Gateway, GatewayClass, HttpRoute, ReferenceGrant};
use mesh_k8s_api::networking::{Ingress, IngressClass};
use mesh_k8s_api::{Kind, LbPool, Object, Resource, Secret, Source, Stored};
use mesh_model::NamespacedName;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::identify::Identity;
use crate::path::FieldPath;
use crate::problem::Severity;
use crate::report::Finding;
use crate::validate::{self, Check};

/// Kind, namespace and name: what makes an object the same one over time.
pub(crate) type Id = (Kind, NamespacedName);

/// SHA-256.
type Digest = [u8; 32];

/// An object of a file, with what is needed to see whether it changed.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The object.
    pub(crate) object: Object,
    /// Of all but `metadata`.
    content: Digest,
    /// Of everything.
    whole: Digest,
}

/// Where an object lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The file.
    pub(crate) file: &'a Path,
    /// Index of the document.
    pub(crate) document: usize,
}

/// Decodes and checks `value`, which was identified as `identity`. `previous` is the same object in the last
/// version of the file: an equal one is given back as it is, so that sets share it.
///
/// `None` when the object is refused; why is then among the findings. Fields that the type does not have are
/// findings too, but only warnings, as they are for an API server.
pub(crate) fn decode(
    identity: &Identity,
    value: Value,
    place: Place<'_>,
    previous: Option<&Entry>,
    findings: &mut Vec<Finding>,
) -> Option<Entry> {
    let draft = Draft::new(identity, &value, place, previous);
    match identity.kind {
        Kind::Namespace => draft.finish::<Namespace>(value, findings),
        Kind::Secret => draft.finish_with(value, findings, |wire: WireSecret| Secret::from(wire)),
        Kind::Service => draft.finish::<Service>(value, findings),
        Kind::EndpointSlice => draft.finish::<EndpointSlice>(value, findings),
        Kind::IngressClass => draft.finish::<IngressClass>(value, findings),
        Kind::Ingress => draft.finish::<Ingress>(value, findings),
        Kind::GatewayClass => draft.finish::<GatewayClass>(value, findings),
        Kind::Gateway => draft.finish::<Gateway>(value, findings),
        Kind::HttpRoute => draft.finish::<HttpRoute>(value, findings),
        Kind::ReferenceGrant => draft.finish::<ReferenceGrant>(value, findings),
        Kind::LbPool => draft.finish::<LbPool>(value, findings),
    }
}

/// All of an entry but the object.
struct Draft<'a> {
    identity: &'a Identity,
    place: Place<'a>,
    previous: Option<&'a Entry>,
    content: Digest,
    whole: Digest,
}

impl<'a> Draft<'a> {
    fn new(identity: &'a Identity, value: &Value, place: Place<'a>, previous: Option<&'a Entry>) -> Self {
        let mut whole = Sha256::new();
        let mut content = Sha256::new();
        for (key, part) in value.as_object().into_iter().flatten() {
            let text = part.to_string();
            for hash in [Some(&mut whole), (key != "metadata").then_some(&mut content)].into_iter().flatten()
            {
                hash.update(key);
                hash.update([0]);
                hash.update(&text);
            }
        }
        let (content, whole) = (content.finalize().into(), whole.finalize().into());
        Self { identity, place, previous, content, whole }
    }

    fn finish<T>(self, value: Value, findings: &mut Vec<Finding>) -> Option<Entry>
    where
        T: DeserializeOwned + Resource + Check,
        Object: From<Stored<T>>,
    {
        self.finish_with(value, findings, |object: T| object)
    }

    fn finish_with<W, T>(
        self,
        value: Value,
        findings: &mut Vec<Finding>,
        convert: impl FnOnce(W) -> T,
    ) -> Option<Entry>
    where
        W: DeserializeOwned,
        T: Resource + Check,
        Object: From<Stored<T>>,
    {
        let before = findings.len();
        let object = convert(self.typed(value, findings)?);
        validate::check(&object, findings);
        if findings[before..].iter().any(|finding| finding.severity == Severity::Error) {
            return None;
        }
        let source = Source::File { path: self.place.file.to_owned(), document: self.place.document };
        let object = match self.previous {
            Some(old) if old.whole == self.whole && *old.object.source() == source => old.object.clone(),
            old => {
                let generation = match old {
                    Some(old) if old.content == self.content => old.object.generation(),
                    Some(old) => old.object.generation() + 1,
                    None => 1,
                };
                let created = object.metadata().creation_timestamp.as_ref();
                let created_ms = created.map_or(i64::MAX, |time| time.0.as_millisecond());
                Object::from(Stored { object, source, uid: self.uid(), generation, created_ms })
            }
        };
        Some(Entry { object, content: self.content, whole: self.whole })
    }

    fn typed<W: DeserializeOwned>(&self, value: Value, findings: &mut Vec<Finding>) -> Option<W> {
        let explain = |path: &FieldPath| {
            let kind = self.identity.kind.as_str().to_ascii_lowercase();
            let names = path.0.iter().filter_map(|step| match step {
                crate::path::Step::Key(key) => Some(key.as_str()),
                crate::path::Step::Index(_) => None,
            });
            std::iter::once(kind.as_str()).chain(names).collect::<Vec<_>>().join(".")
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
        let (message, fix) = if self.identity.kind == Kind::Secret {
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

    /// The same for the same object in the same file, in the form of a UUID.
    fn uid(&self) -> String {
        let Identity { kind, name } = self.identity;
        let text = format!("{kind}/{}/{}/{}", name.namespace, name.name, self.place.file.display());
        let hex: String = Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}
