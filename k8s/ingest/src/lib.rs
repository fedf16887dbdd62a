//! Kubernetes objects to intent rows: Services, their backends, certificates, address pools and nodes.
//!
//! In comes an [`ObjectSet`]; out goes [`Ingested`], in the types of `mesh-model`: addresses are addresses
//! and ports are ports, so nobody parses them again. [`ingest`] is pure and total: the same objects give
//! the same rows, and what cannot be used is a [`Note`] that names object, field and fix. The crate spawns
//! no tasks and does no I/O. Start reading at [`ingest`], and [`nodes`] for what nodes are made of; each kind has a file.

mod backends;
mod certificate;
mod node;
mod note;
mod pool;
mod service;

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_k8s_api::ObjectSet;
use mesh_model::address::AddressPool;
use mesh_model::secret::CertificateIndex;
use mesh_model::service::{BackendIndex, ServiceIndex};
use mesh_model::{ConditionIntent, Note};

pub use node::{Nodes, PodRanges, nodes};

/// Annotation of a Service: `keep` (the default) lets the backends behind the proxy see the client's
/// address, `node` the node's.
pub const CLIENT_ADDRESS: &str = "service.millrace.io/client-address";

/// Annotation of a Service, Cilium's: how the proxy picks an endpoint, `round_robin` (the default) or
/// `least_request`.
pub const L7_ALGORITHM: &str = "service.cilium.io/lb-l7-algorithm";

/// Label of an EndpointSlice that names its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The rows that the objects ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ingested {
    /// Services.
    pub services: ServiceIndex,
    /// Backends of each of those Services, also of one without any.
    pub backends: BackendIndex,
    /// For every Secret the certificate in it, or why there is none.
    pub certificates: CertificateIndex,
    /// Address pools in order of their name.
    pub pools: Vec<AddressPool>,
    /// Conditions of the objects; none of these kinds has one of its own yet.
    pub conditions: Vec<ConditionIntent>,
    /// What is wrong with the objects, in order of object and field.
    pub notes: Vec<Note>,
}

/// Turns objects into rows. Costs time linear in the objects; reading a certificate is the dearest part,
/// see [`reingest`].
pub fn ingest(objects: &ObjectSet) -> Ingested {
    ingest_with(objects, certificate::read)
}

/// The same rows as [`ingest`] gives; certificates of Secrets that are the same as in `before` are taken
/// from there. An unchanged Secret costs a look-up.
pub fn reingest(objects: &ObjectSet, before: (&ObjectSet, &Ingested)) -> Ingested {
    let (old_objects, old) = before;
    ingest_with(objects, |secret| {
        let name = mesh_k8s_api::Resource::namespaced_name(&secret.object);
        let same = old_objects.secrets.get(&name).filter(|other| Arc::ptr_eq(other, secret));
        same.and_then(|_| old.certificates.get(&name).cloned()).unwrap_or_else(|| certificate::read(secret))
    })
}

fn ingest_with(
    objects: &ObjectSet,
    certificate: impl Fn(&Arc<mesh_k8s_api::Stored<mesh_k8s_api::Secret>>) -> certificate::Outcome,
) -> Ingested {
    let mut notes = Vec::new();
    let services: ServiceIndex = objects
        .services
        .iter()
        .map(|(name, stored)| (name.clone(), Arc::new(service::read(stored, &mut notes))))
        .collect();
    let slices = backends::by_service(objects, &mut notes);
    let backends: BackendIndex = objects
        .services
        .iter()
        .zip(services.values())
        .map(|((name, stored), service)| {
            let slices = slices.get(name).map(Vec::as_slice).unwrap_or_default();
            (name.clone(), Arc::new(backends::read(stored, service, slices, &mut notes)))
        })
        .collect();
    let certificates: BTreeMap<_, _> =
        objects.secrets.iter().map(|(name, stored)| (name.clone(), certificate(stored))).collect();
    let pools = objects.lb_pools.values().map(|stored| pool::read(stored, &mut notes)).collect();
    notes.sort();
    notes.dedup();
    Ingested { services, backends, certificates, pools, conditions: Vec::new(), notes }
}

#[cfg(test)]
mod tests;
