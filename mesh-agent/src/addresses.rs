//! The addresses that were given, kept over a restart of the agent.
//!
//! Which address an object has depends on who came before it. Without this file a new agent would give the
//! addresses anew, and a client that knows one would find another object behind it, or nobody.

use std::fs::File;
use std::io::{self, BufReader};
use std::net::IpAddr;
use std::path::PathBuf;

use mesh_model::address::AddressAssignments;
use mesh_model::{NamespacedName, ObjectKey};
use serde::{Deserialize, Serialize};

use crate::run_dir;

/// The file, and what it holds.
#[derive(Debug)]
pub(crate) struct KeptAddresses {
    path: PathBuf,
    held: AddressAssignments,
    complained: bool,
}

/// A line of it.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    group: String,
    kind: String,
    namespace: String,
    name: String,
    addresses: Vec<IpAddr>,
}

impl KeptAddresses {
    /// Reads it. One that is missing or damaged holds nothing: addresses are given anew then.
    pub(crate) fn read(path: PathBuf) -> Self {
        let held = match read(&path) {
            Ok(held) => held,
            Err(error) if error.kind() == io::ErrorKind::NotFound => AddressAssignments::default(),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "given addresses are not known any more");
                AddressAssignments::default()
            }
        };
        Self { path, held, complained: false }
    }

    /// What an earlier agent gave.
    pub(crate) fn held(&self) -> &AddressAssignments {
        &self.held
    }

    /// Writes what is given now, if that is something else: a new file in the place of the old one. Where it
    /// cannot be written, as on a full disk, the next change tries again.
    pub(crate) fn keep(&mut self, given: &AddressAssignments) {
        if *given == self.held {
            return;
        }
        match self.write(given) {
            Ok(()) => {
                self.held = given.clone();
                self.complained = false;
            }
            Err(error) if !std::mem::replace(&mut self.complained, true) => {
                tracing::warn!(file = %self.path.display(), %error, "given addresses cannot be kept");
            }
            Err(_) => {}
        }
    }

    fn write(&self, given: &AddressAssignments) -> io::Result<()> {
        let entries: Vec<Entry> = given
            .iter()
            .map(|(object, addresses)| Entry {
                group: object.group.clone(),
                kind: object.kind.clone(),
                namespace: object.name.namespace.clone(),
                name: object.name.name.clone(),
                addresses: addresses.clone(),
            })
            .collect();
        run_dir::replace(&self.path, &serde_json::to_vec_pretty(&entries)?)
    }
}

fn read(path: &std::path::Path) -> io::Result<AddressAssignments> {
    let file = run_dir::open(path, File::options().read(true))?;
    let entries: Vec<Entry> = serde_json::from_reader(BufReader::new(file))?;
    let given = entries.into_iter().map(|entry| {
        let name = NamespacedName { namespace: entry.namespace, name: entry.name };
        (ObjectKey::new(entry.group, entry.kind, name), entry.addresses)
    });
    Ok(given.collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use mesh_model::address::AddressAssignments;
    use mesh_model::{NamespacedName, ObjectKey};

    use super::KeptAddresses;

    #[test]
    fn addresses_outlive_the_agent_and_a_damaged_file_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("addresses.json");
        let name = NamespacedName { namespace: "shop".to_owned(), name: "edge".to_owned() };
        let object = ObjectKey::new("gateway.networking.k8s.io", "Gateway", name);
        let addresses = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().expect("an address"));
        let given = AddressAssignments::from([(object, addresses.to_vec())]);
        let mut kept = KeptAddresses::read(path.clone());
        assert!(kept.held().is_empty());
        kept.keep(&given);
        assert_eq!(*KeptAddresses::read(path.clone()).held(), given);
        fs::write(&path, "[{").expect("room");
        assert!(KeptAddresses::read(path).held().is_empty());
    }
}
