//! Objects and their history.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What happened to an object at a version.
#[derive(Clone, Debug)]
pub(super) struct Happened {
    pub(super) version: u64,
    pub(super) kind: &'static str,
    pub(super) object: Value,
}

/// Namespace and name.
type Name = (String, String);

#[derive(Debug, Default)]
struct Collection {
    objects: BTreeMap<Name, Value>,
    history: Vec<Happened>,
}

/// All collections, with one count of versions.
#[derive(Debug, Default)]
pub(super) struct Store {
    version: u64,
    /// Nobody can go on from a version before this.
    oldest: u64,
    collections: BTreeMap<String, Collection>,
}

/// Another version of the object was written meanwhile.
pub(super) struct Conflict;

impl Store {
    pub(super) fn serve(&mut self, path: &str) {
        self.collections.entry(path.to_owned()).or_default();
    }

    pub(super) fn serves(&self, path: &str) -> bool {
        self.collections.contains_key(path)
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.oldest = self.version;
        self.collections.values_mut().for_each(|collection| collection.history.clear());
    }

    /// Writes the object; what a server fills in is kept from the one before.
    pub(super) fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        let version = self.version;
        let collection = self.collections.entry(path.to_owned()).or_default();
        let name = name_of(&object);
        let old = collection.objects.get(&name);
        let generation = match old {
            Some(old) if without_status(old) == without_status(&object) => {
                old["metadata"]["generation"].clone()
            }
            Some(old) => json!(old["metadata"]["generation"].as_u64().unwrap_or(0) + 1),
            None => json!(1),
        };
        let metadata = &mut object["metadata"];
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{}-{}", name.0, name.1));
        }
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = json!("2026-01-02T03:04:05Z");
        }
        metadata["generation"] = generation;
        metadata["resourceVersion"] = json!(version.to_string());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        collection.history.push(Happened { version, kind, object: object.clone() });
        collection.objects.insert(name, object.clone());
        object
    }

    /// The same, if `object` names no version or the one that is stored.
    pub(super) fn replace(&mut self, path: &str, object: Value) -> Result<Value, Conflict> {
        let (namespace, name) = name_of(&object);
        let stored =
            self.get(path, &namespace, &name).map(|stored| stored["metadata"]["resourceVersion"].clone());
        let named = &object["metadata"]["resourceVersion"];
        match stored {
            Some(stored) if !named.is_null() && *named != stored => Err(Conflict),
            _ => Ok(self.put(path, object)),
        }
    }

    pub(super) fn delete(&mut self, path: &str, namespace: &str, name: &str) -> bool {
        let Some(collection) = self.collections.get_mut(path) else { return false };
        let Some(mut object) = collection.objects.remove(&(namespace.to_owned(), name.to_owned())) else {
            return false;
        };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        collection.history.push(Happened { version: self.version, kind: "DELETED", object });
        true
    }

    pub(super) fn get(&self, path: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.collections.get(path)?.objects.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Objects in the order of their names.
    pub(super) fn list(&self, path: &str) -> impl Iterator<Item = &Value> {
        self.collections.get(path).into_iter().flat_map(|collection| collection.objects.values())
    }

    /// What happened after a version.
    pub(super) fn since(&self, path: &str, version: u64) -> Vec<Happened> {
        let history = self.collections.get(path).into_iter().flat_map(|collection| &collection.history);
        history.filter(|happened| happened.version > version).cloned().collect()
    }
}

fn name_of(object: &Value) -> Name {
    let text = |field| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

fn without_status(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
        object.remove("metadata");
    }
    object
}
