//! Good objects of every kind, to begin with.

use std::sync::LazyLock;

use mesh_k8s_api::ObjectSet;
use serde_json::{Value, json};

const FILES: &[&str] = &[
    include_str!("../../../../examples/quickstart/10-services.yaml"),
    include_str!("../../../../examples/quickstart/20-ingress.yaml"),
    include_str!("../../../../examples/quickstart/30-gateway.yaml"),
    include_str!("../../../../examples/quickstart/40-mesh.yaml"),
    include_str!("../../../../examples/quickstart/50-addresses.yaml"),
    include_str!("seeds.yaml"),
];

/// A certificate and its key, both in PEM.
struct Pair {
    certificate: String,
    key: String,
}

static PAIR: LazyLock<Pair> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate can be made");
    Pair { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
});

static DOCUMENTS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let mut documents: Vec<Value> = FILES
        .iter()
        .flat_map(|text| text.split("\n---\n"))
        .map(|text| serde_saphyr::from_str(text).expect("a seed is good YAML"))
        .filter(|document: &Value| document.is_object())
        .collect();
    documents.push(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": "shop-tls", "namespace": "shop" },
        "stringData": { "tls.crt": PAIR.certificate, "tls.key": PAIR.key },
    }));
    documents
});

static OBJECTS: LazyLock<ObjectSet> = LazyLock::new(|| super::read(DOCUMENTS.iter().enumerate()));

/// The documents.
pub(super) fn documents() -> &'static [Value] {
    &DOCUMENTS
}

/// The same as objects.
pub(super) fn objects() -> &'static ObjectSet {
    &OBJECTS
}

/// A part of the key that no other text has.
pub(super) fn private_key() -> &'static str {
    PAIR.key.lines().nth(1).expect("a key has a second line")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mesh_k8s_files::Store;

    use super::documents;

    #[test]
    fn every_seed_is_a_good_object() {
        for document in documents() {
            let mut store = Store::default();
            store.put(Path::new("a.json"), document.to_string().as_bytes());
            assert!(store.problems().is_empty(), "{:?}", store.problems());
            assert_eq!(store.objects().len(), 1, "{document}");
        }
    }
}
