//! Objects that were good, changed in ways that people and programs change them, on the whole trip down.
//!
//! Holds: our proxy takes everything that we lower, on the way from any state to any other; the same objects
//! give the same bytes, in whatever order files were read or resources arrived; no dump shows a key.

mod mutate;
mod seeds;

use std::path::PathBuf;

use mesh_k8s_api::ObjectSet;
use mesh_k8s_files::Store;
use mesh_l7proxy_config::ConfigStore;
use mesh_xds::resolve::ResolveConfig;
use mesh_xds::server::ResourceSet;
use mesh_xds_proto::{json, redact};
use serde_json::Value;

use self::mutate::mutated;
use crate::trip::{backwards, change, picture, resources};

/// The bytes are a list of changes.
pub fn run(data: &[u8]) {
    let documents = mutated(data);
    let objects = read(documents.iter().enumerate());
    assert!(objects == read(documents.iter().enumerate().rev()), "the order of files made other objects");
    let [http, https] = [8080, 8443].map(|port| ([127, 0, 0, 1], port).into());
    for config in [
        ResolveConfig::Redirect { thread_ports: vec![(15001, Some(15001)), (15002, Some(15002))] },
        ResolveConfig::Plain { http, https },
    ] {
        let before = resources(seeds::objects(), &config);
        let set = resources(&objects, &config);
        assert!(set == resources(&objects, &config), "the same objects gave other bytes");
        accepted(&before, &set);
        printed(&set);
    }
}

/// Each document a file of its own, named by its number.
fn read<'a>(documents: impl Iterator<Item = (usize, &'a Value)>) -> ObjectSet {
    let mut store = Store::default();
    for (number, document) in documents {
        store.put(&PathBuf::from(format!("{number:03}.json")), document.to_string().as_bytes());
    }
    store.objects().clone()
}

fn accepted(before: &ResourceSet, set: &ResourceSet) {
    let nothing = ResourceSet::default();
    let mut fresh = ConfigStore::new();
    assert_eq!(change(&mut fresh, &nothing, set), [], "our proxy refuses what we lower");
    let fresh = picture(&fresh);
    assert!(fresh == picture(&backwards(set)), "the order of arrival made another configuration");

    let mut store = ConfigStore::new();
    assert_eq!(change(&mut store, &nothing, before), []);
    assert_eq!(change(&mut store, before, set), [], "our proxy refuses the way from one state to the next");
    assert!(fresh == picture(&store), "the way here made another configuration");

    let mut successor = ConfigStore::new();
    assert_eq!(successor.import(&store.export()).expect("what was exported is whole"), []);
    assert!(fresh == picture(&successor), "a successor has another configuration");
}

fn printed(set: &ResourceSet) {
    let key = seeds::private_key();
    for (type_url, name, body) in set.iter() {
        let value = json::encode_any(body).unwrap_or_else(|error| panic!("{type_url} {name}: {error}"));
        let again = json::decode_any_value(&value).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Not by their bytes: fields may come in any order.
        let printed = json::encode_any(&again).expect("what was printed once can be printed");
        assert_eq!(printed, value, "{name}: printed and read again it is another");
        let shown = redact::encode_any(body).to_string();
        assert!(!shown.contains(key), "{name}: a dump shows the key");
    }
}
