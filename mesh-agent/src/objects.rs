//! Objects of any kind as documents, for `get` and `describe`.

use mesh_k8s_api::{Kind, Object, Resource, Secret, Stored};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The kind with this name in lower case, such as `httproute`.
pub(crate) fn kind_of(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(name))
}

/// Whether objects of the kind have a status that is written here.
pub(crate) fn has_status(kind: Kind) -> bool {
    matches!(kind, Kind::Ingress | Kind::GatewayClass | Kind::Gateway | Kind::HttpRoute)
}

/// The object as it was read; of a Secret everything but its values.
pub(crate) fn document(object: &Object) -> Value {
    match object {
        Object::Namespace(stored) => plain(stored),
        Object::Node(stored) => plain(stored),
        Object::Secret(stored) => redacted(stored),
        Object::Service(stored) => plain(stored),
        Object::EndpointSlice(stored) => plain(stored),
        Object::IngressClass(stored) => plain(stored),
        Object::Ingress(stored) => plain(stored),
        Object::GatewayClass(stored) => plain(stored),
        Object::Gateway(stored) => plain(stored),
        Object::HttpRoute(stored) => plain(stored),
        Object::ReferenceGrant(stored) => plain(stored),
        Object::LbPool(stored) => plain(stored),
        Object::CiliumNode(stored) => plain(stored),
        Object::Pod(stored) => plain(stored),
        Object::CiliumIdentity(stored) => plain(stored),
        Object::CiliumEndpoint(stored) => plain(stored),
    }
}

/// An object as it was read, with the facts that a cluster would add.
pub(crate) fn plain<T: Resource + Serialize>(stored: &Stored<T>) -> Value {
    with_facts(stored, serde_json::to_value(&stored.object).unwrap_or_default())
}

fn with_facts<T: Resource>(stored: &Stored<T>, mut document: Value) -> Value {
    if let Value::Object(fields) = &mut document {
        fields.insert("apiVersion".to_owned(), json!(T::KIND.api_version()));
        fields.insert("kind".to_owned(), json!(T::KIND.as_str()));
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            metadata.insert("generation".to_owned(), json!(stored.generation));
            metadata.insert("uid".to_owned(), json!(stored.uid));
        }
    }
    document
}

fn redacted(stored: &Stored<Secret>) -> Value {
    let is_tls = stored.object.type_ == "kubernetes.io/tls";
    let data: Map<String, Value> = stored
        .object
        .data
        .iter()
        .map(|(key, value)| {
            // A hash of a guessable word is the word: keys and certificates alone are beyond guessing.
            let is_guessable = !(is_tls && matches!(key.as_str(), "tls.crt" | "tls.key"));
            let shown = match is_guessable {
                true => "[redacted]".to_owned(),
                false => format!("[redacted] sha256 {}", value.fingerprint()),
            };
            (key.clone(), json!(shown))
        })
        .collect();
    let metadata = serde_json::to_value(&stored.object.metadata).unwrap_or_default();
    with_facts(stored, json!({"metadata": metadata, "type": stored.object.type_, "data": data}))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_k8s_api::core::WireSecret;
    use mesh_k8s_api::{Kind, Object, Secret, Source, Stored};
    use serde_json::json;

    use super::{document, kind_of};

    #[test]
    fn kinds_are_found_by_their_name_in_lower_case() {
        assert_eq!(kind_of("httproute"), Some(Kind::HttpRoute));
        assert_eq!(kind_of("teapot"), None);
    }

    #[test]
    fn the_values_of_a_secret_are_never_shown_nor_what_they_could_be_guessed_from() {
        let (opaque, tls) = (shown("Opaque"), shown("kubernetes.io/tls"));
        for shown in [&opaque, &tls] {
            assert!(!shown.to_string().contains("canary"), "{shown}");
            assert_eq!(shown["data"]["password"], "[redacted]");
        }
        assert_eq!(opaque["data"]["tls.key"], "[redacted]");
        // Two keys can be told apart.
        let key = tls["data"]["tls.key"].as_str().expect("text");
        assert!(key.starts_with("[redacted] sha256 ") && key.len() > 30, "{key}");
    }

    fn shown(kind: &str) -> serde_json::Value {
        let wire: WireSecret = serde_json::from_value(json!({
            "metadata": {"name": "keys", "namespace": "shop"},
            "type": kind,
            "stringData": {"tls.key": "canary-77", "password": "canary-78"},
        }))
        .expect("a Secret");
        let stored = Stored {
            object: Secret::from(wire),
            source: Source::Api,
            uid: "u".to_owned(),
            generation: 1,
            created_ms: 0,
        };
        document(&Object::Secret(Arc::new(stored)))
    }
}
