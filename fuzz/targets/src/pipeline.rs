//! Objects that were good, changed in ways that people and programs change them, on the whole trip down.
//!
//! Holds: our proxy takes everything that we lower, on the way from the good state and back to it, and from
//! nothing; the same objects give the same bytes, in whatever order files were read or resources arrived; no
//! dump shows a key.
//!
//! A changed configuration is made of the good one by what differs, which is what agent and proxy do, and is
//! the cheaper way. The dearer checks are made on a few inputs each: the first byte says which.

mod mutate;
mod seeds;

use std::cell::RefCell;

use mesh_l7proxy_config::ConfigStore;
use mesh_xds::resolve::ResolveConfig;
use mesh_xds::server::ResourceSet;
use mesh_xds_proto::{json, redact};

use self::mutate::mutated;
use self::seeds::Folder;
use crate::trip::{Picture, all_at_once, all_backwards, change, differing, picture, resources};

/// A byte chooses where the proxy is and what is looked at; the rest is a list of changes.
pub fn run(data: &[u8]) {
    let (choice, changes) = data.split_first().unwrap_or((&0, &[]));
    GOOD.with_borrow_mut(|[redirect, plain]| {
        let good = if choice & 1 == 0 { redirect } else { plain };
        good.changed(choice >> 1, changes);
    });
}

/// The choice to make every check.
const EVERYTHING: u8 = 6;

thread_local! {
    static GOOD: RefCell<[Good; 2]> = RefCell::new({
        let [http, https] = [8080, 8443].map(|port| ([127, 0, 0, 1], port).into());
        [
            Good::new(ResolveConfig::Redirect { thread_ports: vec![(15001, Some(15001)), (15002, Some(15002))] }),
            Good::new(ResolveConfig::Plain { http, https }),
        ]
    });
}

/// The good state, which every input begins with and leads back to.
struct Good {
    config: ResolveConfig,
    folder: Folder,
    set: ResourceSet,
    store: ConfigStore,
    picture: Picture,
}

impl Good {
    fn new(config: ResolveConfig) -> Self {
        let folder = Folder::new();
        let set = resources(folder.objects(), &config);
        printed(&set, &ResourceSet::default());
        let store = all_at_once(&set);
        let picture = picture(&store);
        Self { config, folder, set, store, picture }
    }

    fn changed(&mut self, look_at: u8, changes: &[u8]) {
        let documents = mutated(changes);
        self.folder.write(&documents);
        let set = resources(self.folder.objects(), &self.config);
        let looks_at = |what| look_at == what || look_at == EVERYTHING;
        if looks_at(0) {
            let other = Folder::backwards(&documents);
            assert!(other.objects() == self.folder.objects(), "the order of files made other objects");
            assert!(set == resources(other.objects(), &self.config), "the same objects gave other bytes");
        }
        self.folder.restore();

        assert_eq!(change(&mut self.store, &self.set, &set), [], "our proxy refuses what we lower");
        let way = picture(&self.store);
        if looks_at(1) {
            assert!(way == picture(&all_at_once(&set)), "the way here made another configuration");
        }
        if looks_at(2) {
            assert!(way == picture(&all_backwards(&set)), "the order of arrival made another configuration");
        }
        if looks_at(3) {
            let mut successor = ConfigStore::new();
            let refused = successor.import(&self.store.export()).expect("what was exported is whole");
            assert_eq!(refused, []);
            assert!(way == picture(&successor), "a successor has another configuration");
        }
        if looks_at(4) {
            let dump = self.store.config_dump().to_string();
            assert!(!dump.contains(seeds::private_key()), "a dump shows the key");
        }
        if looks_at(5) {
            printed(&set, &self.set);
        }
        assert_eq!(change(&mut self.store, &set, &self.set), [], "our proxy refuses the way back");
        assert!(self.picture == picture(&self.store), "the way back made another configuration");
    }
}

/// What of a set another does not have.
fn printed(set: &ResourceSet, known: &ResourceSet) {
    let key = seeds::private_key();
    for (type_url, name, body) in differing(set, known) {
        let value = json::encode_any(body).unwrap_or_else(|error| panic!("{type_url} {name}: {error}"));
        let again = json::decode_any_value(&value).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Not by their bytes: fields may come in any order.
        let printed = json::encode_any(&again).expect("what was printed once can be printed");
        assert_eq!(printed, value, "{name}: printed and read again it is another");
        let shown = redact::encode_any(body).to_string();
        assert!(!shown.contains(key), "{name}: a dump shows the key");
    }
}
