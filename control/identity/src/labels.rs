//! Which labels make an identity.

use std::collections::BTreeMap;

/// Where labels of Kubernetes are from.
const SOURCE: &str = "k8s:";
/// The pod's namespace.
const NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Before labels of the pod's namespace.
const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels.";
/// The pod's service account.
const SERVICE_ACCOUNT: &str = "io.cilium.k8s.policy.serviceaccount";
/// The cluster.
const CLUSTER: &str = "io.cilium.k8s.policy.cluster";

/// Which labels count: those that are not left out, and some in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFilter {
    /// Beginnings of labels that count in any case.
    taken: Vec<&'static str>,
    /// What labels that change with every roll-out, or are about the machine, begin with or are.
    left_out: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// The label begins so.
    Begins(&'static str),
    /// The label has this in it.
    Has(&'static str),
}

impl Default for LabelFilter {
    /// Cilium's.
    fn default() -> Self {
        use Pattern::{Begins, Has};
        Self {
            taken: vec![NAMESPACE, NAMESPACE_LABELS, SERVICE_ACCOUNT, CLUSTER, "app.kubernetes.io"],
            left_out: vec![
                Begins("io.kubernetes"),
                Begins("kubernetes.io"),
                Has("beta.kubernetes.io"),
                Begins("k8s.io"),
                Begins("pod-template-generation"),
                Begins("pod-template-hash"),
                Begins("controller-revision-hash"),
                Begins("annotation"),
                Begins("etcd_node"),
                Begins("statefulset.kubernetes.io/pod-name"),
                Begins("apps.kubernetes.io/pod-index"),
                Begins("batch.kubernetes.io/job-completion-index"),
                Begins("batch.kubernetes.io/controller-uid"),
                Begins("batch.kubernetes.io/job-name"),
                Begins("controller-uid"),
                Begins("job-name"),
            ],
        }
    }
}

impl LabelFilter {
    /// Whether a label counts.
    pub fn takes(&self, label: &str) -> bool {
        let is_out = |pattern: &Pattern| match pattern {
            Pattern::Begins(text) => label.starts_with(text),
            Pattern::Has(text) => label.contains(text),
        };
        self.taken.iter().any(|taken| label.starts_with(taken)) || !self.left_out.iter().any(is_out)
    }
}

/// What a pod's identity is made of.
#[derive(Clone, Copy, Debug)]
pub struct PodLabels<'a> {
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Its namespace.
    pub namespace: &'a str,
    /// The labels of its namespace.
    pub namespace_labels: &'a BTreeMap<String, String>,
    /// Its service account.
    pub service_account: &'a str,
    /// The cluster's name.
    pub cluster: &'a str,
}

/// The labels that count, each with its source, as a CiliumIdentity has them under `security-labels`.
pub fn security_labels(pod: PodLabels<'_>, filter: &LabelFilter) -> BTreeMap<String, String> {
    let own = pod.labels.iter().map(|(key, value)| (key.clone(), value.clone()));
    let of_namespace =
        pod.namespace_labels.iter().map(|(key, value)| (format!("{NAMESPACE_LABELS}{key}"), value.clone()));
    let facts = [(NAMESPACE, pod.namespace), (SERVICE_ACCOUNT, pod.service_account), (CLUSTER, pod.cluster)];
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
    let facts = facts.map(|(key, value)| (key.to_owned(), value.to_owned()));
    // The facts come last: no label that somebody put on a pod can pass for its namespace.
    own.chain(of_namespace)
        .chain(facts)
        .filter(|(key, _)| filter.takes(key))
        .map(|(key, value)| (format!("{SOURCE}{key}"), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{LabelFilter, PodLabels, security_labels};

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_pod_is_known_by_its_labels_its_namespace_and_its_account() {
        let labels = map(&[
            ("app", "web"),
            ("app.kubernetes.io/name", "web"),
            ("pod-template-hash", "66b6c48dd5"),
            ("statefulset.kubernetes.io/pod-name", "web-0"),
            ("topology.beta.kubernetes.io/zone", "a"),
        ]);
        let namespace = map(&[("kubernetes.io/metadata.name", "shop"), ("team", "a")]);
        let pod = PodLabels {
            labels: &labels,
            namespace: "shop",
            namespace_labels: &namespace,
            service_account: "default",
            cluster: "default",
        };
        let expected = map(&[
            ("k8s:app", "web"),
            ("k8s:app.kubernetes.io/name", "web"),
            ("k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name", "shop"),
            ("k8s:io.cilium.k8s.namespace.labels.team", "a"),
            ("k8s:io.cilium.k8s.policy.cluster", "default"),
            ("k8s:io.cilium.k8s.policy.serviceaccount", "default"),
            ("k8s:io.kubernetes.pod.namespace", "shop"),
        ]);
        assert_eq!(security_labels(pod, &LabelFilter::default()), expected);
    }

    #[test]
    fn no_label_of_a_pod_passes_for_its_namespace() {
        let labels = map(&[("io.kubernetes.pod.namespace", "kube-system")]);
        let none = BTreeMap::new();
        let pod = PodLabels {
            labels: &labels,
            namespace: "shop",
            namespace_labels: &none,
            service_account: "",
            cluster: "",
        };
        let expected = map(&[("k8s:io.kubernetes.pod.namespace", "shop")]);
        assert_eq!(security_labels(pod, &LabelFilter::default()), expected);
    }
}
