//! One parsed value to one object of a file.

use std::path::Path;

use mesh_k8s_api::{Facts, Finding, Kind, Object, Source};
use mesh_model::NamespacedName;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::identify::Identity;

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
/// `None` when the object is refused; why is then among the findings.
pub(crate) fn decode(
    identity: &Identity,
    value: Value,
    place: Place<'_>,
    previous: Option<&Entry>,
    findings: &mut Vec<Finding>,
) -> Option<Entry> {
    let (content, whole) = digests(&value);
    let source = Source::File { path: place.file.to_owned(), document: place.document };
    let facts = |_: &_| Facts {
        source: source.clone(),
        uid: uid(identity, place.file),
        generation: match previous {
            Some(old) if old.content == content => old.object.generation(),
            Some(old) => old.object.generation() + 1,
            None => 1,
        },
    };
    let object = Object::decode(identity.kind, value, facts, findings)?;
    let object = match previous {
        Some(old) if old.whole == whole && *old.object.source() == source => old.object.clone(),
        _ => object,
    };
    Some(Entry { object, content, whole })
}

/// Of everything but `metadata`, and of everything.
fn digests(value: &Value) -> (Digest, Digest) {
    let mut whole = Sha256::new();
    let mut content = Sha256::new();
    for (key, part) in value.as_object().into_iter().flatten() {
        let text = part.to_string();
        for hash in [Some(&mut whole), (key != "metadata").then_some(&mut content)].into_iter().flatten() {
            hash.update(key);
            hash.update([0]);
            hash.update(&text);
        }
    }
    (content.finalize().into(), whole.finalize().into())
}

/// The same for the same object in the same file, in the form of a UUID.
fn uid(identity: &Identity, file: &Path) -> String {
    let Identity { kind, name } = identity;
    let text = format!("{kind}/{}/{}/{}", name.namespace, name.name, file.display());
    let hex: String = Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests;
