//! Which object a value is meant to be.

use mesh_k8s_api::{FieldPath, Finding, Kind, Severity};
use mesh_model::{NamespacedName, ObjectKey};
use serde_json::{Map, Value};

/// Kind, namespace and name of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Kind.
    pub(crate) kind: Kind,
    /// Namespace, filled in, and name.
    pub(crate) name: NamespacedName,
}

/// Why a value is no object that is read.
pub(crate) enum Stranger {
    /// It cannot be told what it is meant to be.
    Unclear(Box<Finding>),
    /// It is an object, of a kind that is not read.
    Foreign(Box<(ObjectKey, Finding)>),
    /// It is an object of a kind that is read, in a version that is not.
    Version(Box<(Identity, Finding)>),
}

/// Reads `apiVersion`, `kind`, `metadata.namespace` and `metadata.name`.
pub(crate) fn identify(value: &Value) -> Result<Identity, Stranger> {
    let unclear = |path: &str, message: &str, fix: &str| {
        Stranger::Unclear(Box::new(error(path, message.to_owned(), fix.to_owned())))
    };
    let Some(object) = value.as_object() else {
        return Err(unclear(
            "",
            "this is no object: a mapping with apiVersion, kind and metadata is expected",
            "write a Kubernetes object here, or remove the document",
        ));
    };
    let text = |key: &str| object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let api_version = text("apiVersion").ok_or_else(|| {
        unclear("apiVersion", "is missing", "add it, such as `apiVersion: networking.k8s.io/v1`")
    })?;
    let kind =
        text("kind").ok_or_else(|| unclear("kind", "is missing", "add it, such as `kind: Ingress`"))?;
    let metadata = object.get("metadata").and_then(Value::as_object);
    let of_metadata = |key: &str| metadata.and_then(|m| m.get(key)).and_then(Value::as_str);
    let name = of_metadata("name").unwrap_or_default();
    let namespace = of_metadata("namespace").filter(|namespace| !namespace.is_empty());

    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let Some(found) = Kind::find(group, kind) else {
        let name = NamespacedName::new(namespace.unwrap_or_default(), name);
        let key = ObjectKey::new(group, kind, name);
        return Err(Stranger::Foreign(Box::new((key, foreign(group, kind)))));
    };
    if name.is_empty() {
        return Err(unclear("metadata.name", "is missing or is no text", "give the object a name"));
    }
    let namespace = if found.namespaced() { namespace.unwrap_or("default") } else { "" };
    let identity = Identity { kind: found, name: NamespacedName::new(namespace, name) };
    if !found.versions().contains(&version) {
        let message = format!("version {version:?} of {found} is not read");
        let fix = format!("write `apiVersion: {}`", found.api_version());
        return Err(Stranger::Version(Box::new((identity, error("apiVersion", message, fix)))));
    }
    Ok(identity)
}

/// Makes `value` what an API server would store and a translator takes: the namespace filled in, the rest as in
/// [`mesh_k8s_api::normalise`].
pub(crate) fn normalise(identity: &Identity, value: &mut Value) -> Option<Finding> {
    let had_namespace = mesh_k8s_api::normalise(identity.kind, value);
    let metadata = value.get_mut("metadata").and_then(Value::as_object_mut)?;
    if identity.kind.namespaced() {
        metadata.insert("namespace".to_owned(), Value::String(identity.name.namespace.clone()));
    }
    had_namespace.then(|| Finding {
        path: FieldPath::parse("metadata.namespace"),
        severity: Severity::Warning,
        message: format!("a {} is in no namespace; the field is not used", identity.kind),
        fix: "remove it".to_owned(),
    })
}

/// The objects in a value: itself, or the items of a list, each with its place.
pub(crate) fn flatten(value: Value, place: FieldPath, found: &mut Vec<(FieldPath, Value)>) {
    let Some(item) = item_type(&value) else {
        found.push((place, value));
        return;
    };
    let Value::Object(mut list) = value else { return };
    match list.remove("items") {
        Some(Value::Array(items)) => {
            let place = place.key("items");
            for (index, mut value) in items.into_iter().enumerate() {
                if let (Some((api_version, kind)), Value::Object(object)) = (&item, &mut value) {
                    fill_in(object, api_version, kind);
                }
                flatten(value, place.index(index), found);
            }
        }
        Some(Value::Null) | None => {}
        Some(other) => found.push((place.key("items"), other)),
    }
}

/// `Some` when the value is a list: `kind: List`, whose items name their own type, or a list of one type.
fn item_type(value: &Value) -> Option<Option<(String, String)>> {
    let kind = value.get("kind")?.as_str()?;
    if kind == "List" {
        return Some(None);
    }
    let api_version = value.get("apiVersion")?.as_str()?;
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let kind = kind.strip_suffix("List")?;
    Kind::find(group, kind).map(|_| Some((api_version.to_owned(), kind.to_owned())))
}

fn fill_in(object: &mut Map<String, Value>, api_version: &str, kind: &str) {
    for (key, text) in [("apiVersion", api_version), ("kind", kind)] {
        object.entry(key).or_insert_with(|| Value::String(text.to_owned()));
    }
}

fn foreign(group: &str, kind: &str) -> Finding {
    let shown = if group.is_empty() { "the core group" } else { group };
    let near = |k: &Kind| k.as_str().eq_ignore_ascii_case(kind) || differ_by_one(k.as_str(), kind);
    let fix = match Kind::ALL.iter().find(|k| near(k)) {
        Some(k) => format!("did you mean `apiVersion: {}`, `kind: {k}`?", k.api_version()),
        None => {
            let kinds: Vec<_> = Kind::ALL.iter().map(|k| k.as_str()).collect();
            format!("remove it from this folder; the kinds that are read: {}", kinds.join(", "))
        }
    };
    error("kind", format!("kind {kind:?} of {shown} is not read"), fix)
}

/// True when one letter added, left out or exchanged makes one word of the other.
fn differ_by_one(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    a.len().max(b.len()) - head - tail <= 1
}

fn error(path: &str, message: String, fix: String) -> Finding {
    Finding { path: FieldPath::parse(path), severity: Severity::Error, message, fix }
}
