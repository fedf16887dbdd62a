//! Manifests as people write them, one version of a file after the other.
//!
//! Holds: whatever is in a file becomes objects and problems, and objects become rows, conditions and notes;
//! each problem names its fix; the same text gives the same objects, and twice in a row changes nothing.

use std::path::Path;

use mesh_k8s_api::ObjectSet;
use mesh_k8s_files::Store;
use mesh_k8s_ingest::ingest;

/// What parts the versions of the file in the input.
const NEXT_VERSION: &[u8] = b"\n# next version\n";

/// Versions of a file; the first byte says whether it is JSON.
pub fn run(data: &[u8]) {
    let file = Path::new(if data.first() == Some(&b'{') { "a.json" } else { "a.yaml" });
    let mut store = Store::default();
    for version in versions(data) {
        store.put(file, version);
        for problem in store.problems() {
            assert!(
                !problem.fix.is_empty() && problem.to_string().len() < 8192 + 8 * data.len(),
                "{problem}"
            );
        }
        let (objects, problems) = (store.objects().clone(), store.problems());
        store.put(file, version);
        assert!(*store.objects() == objects, "the same version again is another");
        assert_eq!(store.problems(), problems);
        translated(&objects);
    }
}

fn versions(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut versions = Vec::new();
    while let Some(at) = rest.windows(NEXT_VERSION.len()).position(|window| window == NEXT_VERSION) {
        versions.push(&rest[..at]);
        rest = &rest[at + NEXT_VERSION.len()..];
    }
    versions.push(rest);
    versions
}

fn translated(objects: &ObjectSet) {
    let ingested = ingest(objects);
    let (services, certificates) = (&ingested.services, &ingested.certificates);
    let ingress = mesh_ingress::Input { objects, services, certificates };
    let gateway = mesh_gateway_api::Input { objects, services, certificates };
    let ingress = mesh_ingress::translate(&ingress, &mesh_ingress::Config::default());
    let gateway = mesh_gateway_api::translate(&gateway, &mesh_gateway_api::Config::default());
    for note in ingested.notes.iter().chain(&ingress.notes).chain(&gateway.notes) {
        assert!(!note.message.is_empty(), "{note:?}");
    }
    for condition in ingress.conditions.iter().chain(&gateway.conditions) {
        assert!(!condition.reason.is_empty(), "{condition:?}");
    }
}
