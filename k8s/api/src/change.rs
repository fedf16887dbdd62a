//! What differs between two sets.

use std::sync::Arc;

use imbl::ordmap::DiffItem;
use mesh_model::ObjectKey;

use crate::set::{ObjectMap, ObjectSet};
use crate::stored::{Resource, Source, Stored};

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// Its content, or where it is read from, is another one.
    Changed,
    /// It is not there any more.
    Removed,
}

/// A difference between two sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectChange {
    /// The object.
    pub object: ObjectKey,
    /// What happened to it.
    pub kind: ChangeKind,
    /// Where it is read from; of a removed one, where it was.
    pub source: Source,
}

impl ObjectSet {
    /// What became of the objects of `before`, by kind and key; pods, which come and go with every roll-out, and what is
    /// written about them, are left out. Costs a walk over both sets; content is compared
    /// only where it is not shared.
    pub fn changes_since(&self, before: &Self) -> Vec<ObjectChange> {
        let mut changes = Vec::new();
        differences(&before.namespaces, &self.namespaces, &mut changes);
        differences(&before.nodes, &self.nodes, &mut changes);
        differences(&before.secrets, &self.secrets, &mut changes);
        differences(&before.services, &self.services, &mut changes);
        differences(&before.endpoint_slices, &self.endpoint_slices, &mut changes);
        differences(&before.ingress_classes, &self.ingress_classes, &mut changes);
        differences(&before.ingresses, &self.ingresses, &mut changes);
        differences(&before.gateway_classes, &self.gateway_classes, &mut changes);
        differences(&before.gateways, &self.gateways, &mut changes);
        differences(&before.http_routes, &self.http_routes, &mut changes);
        differences(&before.reference_grants, &self.reference_grants, &mut changes);
        differences(&before.lb_pools, &self.lb_pools, &mut changes);
        differences(&before.cilium_nodes, &self.cilium_nodes, &mut changes);
        changes
    }
}

fn differences<K: Ord, T: Resource + PartialEq>(
    before: &ObjectMap<K, T>,
    after: &ObjectMap<K, T>,
    changes: &mut Vec<ObjectChange>,
) {
    let change = |stored: &Arc<Stored<T>>, kind| ObjectChange {
        object: stored.key(),
        kind,
        source: stored.source.clone(),
    };
    changes.extend(before.diff(after).map(|item| match item {
        DiffItem::Add(_, new) => change(new, ChangeKind::Added),
        DiffItem::Update { new: (_, new), .. } => change(new, ChangeKind::Changed),
        DiffItem::Remove(_, old) => change(old, ChangeKind::Removed),
    }));
}
