//! Good objects of every kind, to begin with.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;

use mesh_k8s_api::ObjectSet;
use mesh_k8s_files::Store;
use serde_json::{Value, json};

use super::mutate::Document;

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

/// The documents.
pub(super) fn documents() -> &'static [Value] {
    &DOCUMENTS
}

/// A part of the key that no other text has.
pub(super) fn private_key() -> &'static str {
    PAIR.key.lines().nth(1).expect("a key has a second line")
}

/// A folder with each document in a file of its own, named by its number.
pub(super) struct Folder {
    store: Store,
    /// The objects of the seeds.
    seeds: ObjectSet,
    /// Files that are not as the seeds have them.
    touched: BTreeSet<usize>,
}

impl Folder {
    /// With the seeds.
    pub(super) fn new() -> Self {
        let mut store = Store::default();
        for (file, document) in DOCUMENTS.iter().enumerate() {
            put(&mut store, file, document);
        }
        let seeds = store.objects().clone();
        Self { store, seeds, touched: BTreeSet::new() }
    }

    /// With these documents, the last one read first.
    pub(super) fn backwards(documents: &[Document]) -> Self {
        let mut store = Store::default();
        for Document { file, value } in documents.iter().rev() {
            put(&mut store, *file, value);
        }
        Self { store, seeds: ObjectSet::default(), touched: BTreeSet::new() }
    }

    pub(super) fn objects(&self) -> &ObjectSet {
        self.store.objects()
    }

    /// Writes the documents over the seeds, those that differ, and removes the others.
    pub(super) fn write(&mut self, documents: &[Document]) {
        let mut gone = BTreeSet::from_iter(0..DOCUMENTS.len());
        for Document { file, value } in documents {
            gone.remove(file);
            if DOCUMENTS.get(*file) != Some(value) {
                put(&mut self.store, *file, value);
                self.touched.insert(*file);
            }
        }
        for file in &gone {
            self.store.remove(&path(*file));
        }
        self.touched.append(&mut gone);
    }

    /// Makes the files those of the seeds again.
    pub(super) fn restore(&mut self) {
        for file in std::mem::take(&mut self.touched) {
            match DOCUMENTS.get(file) {
                Some(document) => put(&mut self.store, file, document),
                None => self.store.remove(&path(file)),
            }
        }
        assert!(*self.store.objects() == self.seeds, "the seeds again are other objects");
    }
}

/// A new file: of one that was there before, a version that is no good would leave the good one.
fn put(store: &mut Store, file: usize, document: &Value) {
    let path = path(file);
    store.remove(&path);
    store.put(&path, document.to_string().as_bytes());
}

fn path(file: usize) -> PathBuf {
    PathBuf::from(format!("{file:03}.json"))
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
