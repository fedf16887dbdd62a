//! Identities and endpoints of this node's pods in the cluster's own objects, and the cache of all addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_control_endpoint::Endpoint;
use mesh_control_identity::{
    Choice, EndpointAddresses, Identities, IpcacheRow, LabelFilter, PodLabels, ipcache, security_labels,
};
use mesh_control_node::KnownNode;
use mesh_k8s_api::core::Pod;
use mesh_k8s_api::{CiliumEndpoint, Kind, ObjectSet, Stored};
use mesh_k8s_reflect::{Cause, Failure, ObjectWriter, Part};
use mesh_model::{NamespacedName, Node};
use mesh_tables::{Database, Table};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::pod_network::PodNetwork;
use crate::source::Source;

/// What was refused, or not seen in the state yet, is tried again so often.
const RETRY: Duration = Duration::from_secs(5);
/// The cluster's name, as long as there is one cluster.
const CLUSTER: &str = "default";

/// Labels and their values.
type Labels = BTreeMap<String, String>;

/// Follows pods and writes what is said of them.
pub(crate) struct IdentityKeeper {
    /// To the cluster.
    pub(crate) writer: ObjectWriter,
    /// This node's name.
    pub(crate) own: String,
    /// Objects.
    pub(crate) source: Source,
    /// This node's endpoints.
    pub(crate) pods: Arc<PodNetwork>,
    /// Tables.
    pub(crate) database: Arc<Database>,
    /// The nodes.
    pub(crate) nodes: Table<KnownNode>,
    /// The addresses.
    pub(crate) ipcache: Table<IpcacheRow>,
}

/// What is to be said of an endpoint.
struct Said<'a> {
    name: &'a NamespacedName,
    pod: &'a Stored<Pod>,
    endpoint: &'a Endpoint,
    number: u32,
    labels: &'a Labels,
}

/// One write.
#[derive(Debug, PartialEq)]
enum Write {
    Create(Kind, Value),
    Patch(NamespacedName, Value),
    Delete(NamespacedName, String),
}

impl IdentityKeeper {
    /// Until objects are no longer followed.
    pub(crate) async fn run(mut self) {
        let mut used = self.pods.usage_changed();
        let mut known = self.database.subscribe(self.nodes);
        let mut complained = None;
        let mut last = ObjectSet::default();
        let mut identities = Identities::default();
        let mut last_nodes = Vec::new();
        loop {
            let read = self.source.read();
            if read.revision > 0 {
                let objects = &read.objects;
                if !last.cilium_identities.ptr_eq(&objects.cilium_identities) {
                    identities = all_identities(objects);
                }
                let is_new = !last.cilium_endpoints.ptr_eq(&objects.cilium_endpoints);
                last = (**objects).clone();
                let nodes: Vec<Node> =
                    self.database.snapshot().iter(self.nodes).map(|known| known.node.clone()).collect();
                if is_new || nodes != last_nodes {
                    self.write_ipcache(objects, &nodes);
                }
                let mut refused = None;
                let writes = plan(objects, &identities, &nodes, &self.own, &self.pods.list());
                last_nodes = nodes;
                for write in writes {
                    match self.write(&write).await {
                        Ok(()) => {}
                        // The watch brings what is there now.
                        Err(failure) if matches!(failure.cause, Cause::Conflict) => {}
                        Err(failure) => {
                            let is_of_server = failure.is_of_server();
                            refused = Some((failure.message, failure.fix));
                            if is_of_server {
                                break;
                            }
                        }
                    }
                }
                if refused != complained
                    && let Some((message, fix)) = &refused
                {
                    tracing::warn!(fix, "an identity or an endpoint is not written: {message}");
                }
                complained = refused;
            }
            tokio::select! {
                changed = self.source.changed() => if changed.is_err() { return },
                Ok(()) = used.changed() => {}
                Ok(_) = known.changed() => {}
                () = sleep(RETRY) => {}
            }
        }
    }

    fn write_ipcache(&self, objects: &ObjectSet, nodes: &[Node]) {
        let endpoints: Vec<EndpointAddresses> =
            objects.cilium_endpoints.iter().map(|(name, stored)| addresses(name, stored)).collect();
        let rows = ipcache(nodes, &self.own, &endpoints);
        self.database.write(|txn| txn.replace(self.ipcache, rows));
    }

    async fn write(&self, write: &Write) -> Result<(), Failure> {
        match write {
            Write::Create(kind, object) => self.writer.create(*kind, object).await.map(drop),
            Write::Patch(name, patch) => {
                self.writer.patch(Kind::CiliumEndpoint, name, Part::Object, patch).await.map(drop)
            }
            Write::Delete(name, uid) => self.writer.delete(Kind::CiliumEndpoint, name, uid).await,
        }
    }
}

/// What brings the cluster's objects up to date with this node's endpoints.
fn plan(
    objects: &ObjectSet,
    identities: &Identities,
    nodes: &[Node],
    own: &str,
    endpoints: &[Endpoint],
) -> Vec<Write> {
    let Some(own) = nodes.iter().find(|node| node.name == own) else { return Vec::new() };
    let mut writes = Vec::new();
    let mut made: BTreeSet<Labels> = BTreeSet::new();
    for endpoint in endpoints {
        let Some((name, pod)) = pod_of(objects, endpoint) else { continue };
        let labels = labels_of(objects, &name, pod);
        match identities.choose(&labels, fastrand::u32(..)) {
            Choice::Known(number) => {
                let said = Said { name: &name, pod, endpoint, number, labels: &labels };
                writes.extend(endpoint_write(objects, &said, own));
            }
            // Its endpoint is written when the identity is there: until then another agent may give these labels
            // another number.
            Choice::New(number) => {
                if made.insert(labels.clone()) {
                    writes.push(Write::Create(Kind::CiliumIdentity, identity(number, &labels)));
                }
            }
            Choice::Full => {
                tracing::warn!(pod = %name, "all numbers of identities are taken: delete CiliumIdentities nobody has");
            }
        }
    }
    writes.extend(gone(objects, endpoints, own));
    writes
}

fn all_identities(objects: &ObjectSet) -> Identities {
    let read = objects.cilium_identities.iter().filter_map(|(name, stored)| {
        Some((name.parse::<u32>().ok()?, stored.object.security_labels.clone()))
    });
    Identities::new(read)
}

/// The pod that an endpoint is of, if that is the one the cluster has.
fn pod_of<'a>(objects: &'a ObjectSet, endpoint: &Endpoint) -> Option<(NamespacedName, &'a Stored<Pod>)> {
    let pod = endpoint.pod.as_ref()?;
    let name = NamespacedName::new(&pod.namespace, &pod.name);
    let stored = objects.pods.get(&name)?;
    // A pod of the same name that came after it has another sandbox.
    (pod.uid.is_empty() || pod.uid == stored.uid).then_some((name, stored))
}

fn labels_of(objects: &ObjectSet, name: &NamespacedName, pod: &Stored<Pod>) -> Labels {
    let none = Labels::new();
    let namespace =
        objects.namespaces.get(&name.namespace).and_then(|stored| stored.object.metadata.labels.as_ref());
    let account = pod.object.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    let pod = PodLabels {
        labels: pod.object.metadata.labels.as_ref().unwrap_or(&none),
        namespace: &name.namespace,
        namespace_labels: namespace.unwrap_or(&none),
        service_account: account.unwrap_or_default(),
        cluster: CLUSTER,
    };
    security_labels(pod, &LabelFilter::default())
}

fn identity(number: u32, labels: &Labels) -> Value {
    let namespace = labels.get("k8s:io.kubernetes.pod.namespace");
    json!({
        "apiVersion": Kind::CiliumIdentity.api_version(),
        "kind": Kind::CiliumIdentity.as_str(),
        // Labels of objects have no source, and those of a namespace may be too long for one.
        "metadata": {"name": number.to_string(), "labels": {"io.kubernetes.pod.namespace": namespace}},
        "security-labels": labels,
    })
}

/// What brings the object of an endpoint up to date; `None` when it is.
fn endpoint_write(objects: &ObjectSet, said: &Said<'_>, own: &Node) -> Option<Write> {
    let Said { name, pod, endpoint, number, labels } = *said;
    let of_family = |is_v4| endpoint.addresses.iter().find(move |address| address.is_ipv4() == is_v4);
    let mut pair = json!({});
    for (field, is_v4) in [("ipv4", true), ("ipv6", false)] {
        if let Some(address) = of_family(is_v4) {
            pair[field] = json!(address);
        }
    }
    let node = own.internal_addresses().next();
    let shown: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
    let status = json!({
        "id": endpoint.id,
        "identity": {"id": number, "labels": shown},
        "networking": {"addressing": [pair], "node": node},
        "external-identifiers": {
            "container-id": endpoint.container_id,
            "k8s-namespace": name.namespace,
            "k8s-pod-name": name.name,
            "pod-name": name.to_string(),
        },
        "state": "ready",
    });
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": name.name, "uid": pod.uid});
    let Some(current) = objects.cilium_endpoints.get(name) else {
        return Some(Write::Create(
            Kind::CiliumEndpoint,
            json!({
                "apiVersion": Kind::CiliumEndpoint.api_version(),
                "kind": Kind::CiliumEndpoint.as_str(),
                "metadata": {"name": name.name, "namespace": name.namespace, "ownerReferences": [owner]},
                "status": status,
            }),
        ));
    };
    let has = serde_json::to_value(&current.object.status).unwrap_or_default();
    let fields = ["id", "identity", "networking", "state"];
    let is_said = fields.iter().all(|field| has[field] == status[field]);
    // The one of the pod that had the name before belongs to that pod, and goes with it.
    (!is_said).then(|| {
        Write::Patch(name.clone(), json!({"metadata": {"ownerReferences": [owner]}, "status": status}))
    })
}

/// Objects that say an endpoint is on this node which is not.
fn gone(objects: &ObjectSet, endpoints: &[Endpoint], own: &Node) -> Vec<Write> {
    let is_here =
        |node: Option<IpAddr>| node.is_some_and(|node| own.internal_addresses().any(|own| own == node));
    let lives = |name: &NamespacedName| {
        let is_it = |endpoint: &Endpoint| {
            endpoint.pod.as_ref().is_some_and(|pod| pod.namespace == name.namespace && pod.name == name.name)
        };
        endpoints.iter().any(is_it)
    };
    let of_here = objects
        .cilium_endpoints
        .iter()
        .filter(|(name, stored)| is_here(stored.object.status.networking.node.parse().ok()) && !lives(name));
    of_here.map(|(name, stored)| Write::Delete(name.clone(), stored.uid.clone())).collect()
}

fn addresses(name: &NamespacedName, stored: &Stored<CiliumEndpoint>) -> EndpointAddresses {
    let status = &stored.object.status;
    let pairs = status.networking.addressing.iter();
    let texts = pairs.flat_map(|pair| [pair.ipv4.as_str(), pair.ipv6.as_str()]);
    EndpointAddresses {
        name: name.to_string(),
        addresses: texts.filter_map(|text| text.parse().ok()).collect(),
        identity: u32::try_from(status.identity.id).ok().filter(|id| *id > 0),
        node: status.networking.node.parse().ok(),
    }
}

#[cfg(test)]
mod tests;
