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

/// When a rule is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Always.
    Nothing,
    /// Only where Millrace is the network of the pods (`--ipam`).
    PodNetwork,
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
    /// When.
    pub needs: Needs,
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
    needs: Needs::Nothing,
};

/// An agent says where its node is, how full its ranges are, and who its pods are.
const OWN_NODE: [Rule; 4] = [
    pods("cilium.io", "ciliumnodes", &["create", "patch"]),
    pods("cilium.io", "ciliumnodes/status", &["patch"]),
    pods("cilium.io", "ciliumidentities", &["create"]),
    pods("cilium.io", "ciliumendpoints", &["create", "delete", "patch"]),
];

/// The operator gives nodes their ranges, says why one has none, and collects identities.
const NODE_RANGES: [Rule; 4] = [
    pods("cilium.io", "ciliumidentities", &["delete", "patch"]),
    pods("", "events", &["create"]),
    pods("cilium.io", "ciliumnodes", &["patch"]),
    pods("cilium.io", "ciliumnodes/status", &["patch"]),
];

const fn pods(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Rule {
    Rule { needs: Needs::PodNetwork, ..cluster(group, resource, verbs) }
}

const fn cluster(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Rule {
    Rule { group, resource, reach: Reach::Cluster, verbs, needs: Needs::Nothing }
}

/// All that a role needs, sorted.
pub fn rules(role: Role) -> Vec<Rule> {
    // An operator reads no Pods: agents tell what it needs of them.
    let is_read = |kind: &Kind| role == Role::Agent || *kind != Kind::Pod;
    let read = Kind::ALL.into_iter().filter(is_read).map(|kind| Rule {
        group: kind.group(),
        resource: kind.plural(),
        reach: if kind == Kind::Secret { Reach::Secrets } else { Reach::Cluster },
        verbs: &["list", "watch"],
        needs: if kind.is_of_pods() { Needs::PodNetwork } else { Needs::Nothing },
    });
    let mut rules: Vec<Rule> = read.collect();
    match role {
        Role::Agent => rules.extend(OWN_NODE),
        Role::Operator => {
            rules.extend(STATUSES);
            rules.push(LEASE);
            rules.extend(NODE_RANGES);
        }
    }
    rules.sort();
    rules
}
