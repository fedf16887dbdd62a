//! ReferenceGrants: who may refer to what in another namespace.

use std::collections::BTreeMap;

use mesh_model::NamespacedName;

use crate::api::ReferenceGrantSpec;

/// Kind of an object, with its API group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupKind<'a> {
    pub(crate) group: &'a str,
    pub(crate) kind: &'a str,
}

pub(crate) const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
pub(crate) const GATEWAY: GroupKind<'_> = GroupKind { group: GATEWAY_GROUP, kind: "Gateway" };
pub(crate) const HTTP_ROUTE: GroupKind<'_> = GroupKind { group: GATEWAY_GROUP, kind: "HTTPRoute" };
pub(crate) const SECRET: GroupKind<'_> = GroupKind { group: "", kind: "Secret" };
pub(crate) const SERVICE: GroupKind<'_> = GroupKind { group: "", kind: "Service" };

/// All grants, by the namespace that gives them.
#[derive(Debug, Default)]
pub(crate) struct Grants<'a> {
    given: BTreeMap<&'a str, Vec<&'a ReferenceGrantSpec>>,
}

impl<'a> Grants<'a> {
    pub(crate) fn read(grants: impl Iterator<Item = (&'a str, &'a ReferenceGrantSpec)>) -> Self {
        let mut given: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (namespace, spec) in grants {
            given.entry(namespace).or_default().push(spec);
        }
        Self { given }
    }

    /// True when an object of kind `from` in `namespace` may refer to `target` of kind `to`.
    pub(crate) fn permit(
        &self,
        from: GroupKind<'_>,
        namespace: &str,
        to: GroupKind<'_>,
        target: &NamespacedName,
    ) -> bool {
        if namespace == target.namespace {
            return true;
        }
        self.given.get(target.namespace.as_str()).into_iter().flatten().any(|grant| {
            grant.from.iter().any(|entry| {
                entry.group == from.group && entry.kind == from.kind && entry.namespace == namespace
            }) && grant.to.iter().any(|entry| {
                entry.group == to.group
                    && entry.kind == to.kind
                    && entry.name.as_deref().is_none_or(|name| name.is_empty() || name == target.name)
            })
        })
    }

    /// The sentence that tells how to permit such a reference.
    pub(crate) fn advice(
        from: GroupKind<'_>,
        namespace: &str,
        to: GroupKind<'_>,
        target: &NamespacedName,
    ) -> String {
        format!(
            "{} {target} is in another namespace and no ReferenceGrant there permits it; \
             add one in {} from {} in {namespace} to {} {}",
            to.kind, target.namespace, from.kind, to.kind, target.name
        )
    }
}
