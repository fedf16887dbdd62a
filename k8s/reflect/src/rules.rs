//! What each role may do with an API server. The chart grants this and nothing else; tests hold both the chart and what
//! the roles really ask for against it.

use mesh_k8s_api::Kind;

/// A process of ours that talks to an API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The agent of a node.
    Agent,
    /// The operator.
    Operator,
}

/// Where a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// In all namespaces, or for a resource that is in none: a ClusterRole.
    Cluster,
    /// In the namespaces whose Secrets are read (`--secrets-namespaces`): a Role in each; a ClusterRole where none is
    /// named.
    Secrets,
    /// In the namespace of the release: a Role.
    Own,
}

/// One resource, and what may be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Plural name, with a `/status` where only that is meant.
    pub resource: &'static str,
    /// Where.
    pub reach: Reach,
    /// Verbs, in order.
    pub verbs: &'static [&'static str],
}

/// Statuses that the operator writes.
const STATUSES: [Rule; 4] = [
    cluster("networking.k8s.io", "ingresses/status", &["patch"]),
    cluster("gateway.networking.k8s.io", "gatewayclasses/status", &["patch"]),
    cluster("gateway.networking.k8s.io", "gateways/status", &["patch"]),
    cluster("gateway.networking.k8s.io", "httproutes/status", &["patch"]),
];

/// The Lease that one of several operators holds.
const LEASE: Rule = Rule {
    group: "coordination.k8s.io",
    resource: "leases",
    reach: Reach::Own,
    verbs: &["create", "get", "update"],
};

const fn cluster(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Rule {
    Rule { group, resource, reach: Reach::Cluster, verbs }
}

/// All that a role needs, sorted.
pub fn rules(role: Role) -> Vec<Rule> {
    let read = Kind::ALL.into_iter().map(|kind| Rule {
        group: kind.group(),
        resource: kind.plural(),
        reach: if kind == Kind::Secret { Reach::Secrets } else { Reach::Cluster },
        verbs: &["list", "watch"],
    });
    let mut rules: Vec<Rule> = read.collect();
    if role == Role::Operator {
        rules.extend(STATUSES);
        rules.push(LEASE);
    }
    rules.sort();
    rules
}
