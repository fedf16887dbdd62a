//! What the mesh's own xDS server sends, in the form of its golden files.

// Clippy lets test functions unwrap, but not the helpers beside them.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use mesh_l7proxy_config::{ConfigStore, NamedResource};
use mesh_xds_proto::{json, type_urls};
use serde_json::Value;

#[test]
fn everything_that_the_mesh_lowers_is_taken() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xds/tests/golden");
    let mut taken = 0;
    for case in std::fs::read_dir(&folder).unwrap() {
        let file = case.unwrap().path().join("envoy.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let kinds: Value = serde_saphyr::from_str(&text).unwrap();
        let mut store = ConfigStore::new();
        for (kind, resources) in kinds.as_object().into_iter().flatten() {
            let type_url =
                *type_urls::IN_ORDER.iter().find(|url| url.ends_with(&format!(".{kind}"))).unwrap();
            // Goldens hide keys, so their secrets are no secrets.
            if type_url == type_urls::SECRET {
                continue;
            }
            for (name, body) in resources.as_object().into_iter().flatten() {
                let mut body = body.clone();
                body["@type"] = type_url.into();
                let body = json::decode_any_value(&body).unwrap();
                let resource = NamedResource { name: name.clone(), version: "1".to_owned(), body };
                let rejected = store.apply(type_url, vec![resource], &[]);
                assert!(rejected.is_empty(), "{}: {kind}: {rejected:?}", file.display());
                taken += 1;
            }
        }
    }
    assert!(taken > 0, "no golden resources in {}", folder.display());
}
