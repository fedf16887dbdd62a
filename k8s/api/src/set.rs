//! All objects at one moment.

use std::sync::Arc;

use imbl::OrdMap;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use mesh_model::NamespacedName;

use crate::cilium_endpoint::{CiliumEndpoint, CiliumIdentity};
use crate::cilium_node::CiliumNode;
use crate::gateway::{Gateway, GatewayClass, HttpRoute, ReferenceGrant};
use crate::kind::Kind;
use crate::lb_pool::LbPool;
use crate::object::Object;
use crate::secret::Secret;
use crate::stored::Stored;

/// Objects of one type in order of their key. Copies share structure: cloning is constant, inserting
/// logarithmic.
pub type ObjectMap<K, T> = OrdMap<K, Arc<Stored<T>>>;

/// Everything that was read, by kind: what translators take as their input. Cluster-scoped kinds are keyed
/// by name. Two sets that differ in one object share all others, so `Arc::ptr_eq` tells what changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectSet {
    /// Namespaces by name. A namespace need not be here for objects to live in it.
    pub namespaces: ObjectMap<String, Namespace>,
    /// Nodes by name.
    pub nodes: ObjectMap<String, Node>,
    /// Secrets.
    pub secrets: ObjectMap<NamespacedName, Secret>,
    /// Services.
    pub services: ObjectMap<NamespacedName, Service>,
    /// EndpointSlices.
    pub endpoint_slices: ObjectMap<NamespacedName, EndpointSlice>,
    /// IngressClasses by name.
    pub ingress_classes: ObjectMap<String, IngressClass>,
    /// Ingresses.
    pub ingresses: ObjectMap<NamespacedName, Ingress>,
    /// GatewayClasses by name.
    pub gateway_classes: ObjectMap<String, GatewayClass>,
    /// Gateways.
    pub gateways: ObjectMap<NamespacedName, Gateway>,
    /// HTTPRoutes.
    pub http_routes: ObjectMap<NamespacedName, HttpRoute>,
    /// ReferenceGrants.
    pub reference_grants: ObjectMap<NamespacedName, ReferenceGrant>,
    /// CiliumLoadBalancerIPPools by name.
    pub lb_pools: ObjectMap<String, LbPool>,
    /// CiliumNodes by name.
    pub cilium_nodes: ObjectMap<String, CiliumNode>,
    /// Pods; of a cluster those of one node.
    pub pods: ObjectMap<NamespacedName, Pod>,
    /// CiliumIdentities by name, which is their number.
    pub cilium_identities: ObjectMap<String, CiliumIdentity>,
    /// CiliumEndpoints.
    pub cilium_endpoints: ObjectMap<NamespacedName, CiliumEndpoint>,
}

impl ObjectSet {
    /// Puts `object` in, in place of any other of its kind and name.
    pub fn insert(&mut self, object: Object) {
        let name = object.name();
        match object {
            Object::Namespace(stored) => drop(self.namespaces.insert(name.name, stored)),
            Object::Node(stored) => drop(self.nodes.insert(name.name, stored)),
            Object::Secret(stored) => drop(self.secrets.insert(name, stored)),
            Object::Service(stored) => drop(self.services.insert(name, stored)),
            Object::EndpointSlice(stored) => drop(self.endpoint_slices.insert(name, stored)),
            Object::IngressClass(stored) => drop(self.ingress_classes.insert(name.name, stored)),
            Object::Ingress(stored) => drop(self.ingresses.insert(name, stored)),
            Object::GatewayClass(stored) => drop(self.gateway_classes.insert(name.name, stored)),
            Object::Gateway(stored) => drop(self.gateways.insert(name, stored)),
            Object::HttpRoute(stored) => drop(self.http_routes.insert(name, stored)),
            Object::ReferenceGrant(stored) => drop(self.reference_grants.insert(name, stored)),
            Object::LbPool(stored) => drop(self.lb_pools.insert(name.name, stored)),
            Object::CiliumNode(stored) => drop(self.cilium_nodes.insert(name.name, stored)),
            Object::Pod(stored) => drop(self.pods.insert(name, stored)),
            Object::CiliumIdentity(stored) => drop(self.cilium_identities.insert(name.name, stored)),
            Object::CiliumEndpoint(stored) => drop(self.cilium_endpoints.insert(name, stored)),
        }
    }

    /// The object of this kind and name; the namespace does not matter for cluster-scoped kinds.
    pub fn get(&self, kind: Kind, name: &NamespacedName) -> Option<Object> {
        match kind {
            Kind::Namespace => self.namespaces.get(&name.name).cloned().map(Object::Namespace),
            Kind::Node => self.nodes.get(&name.name).cloned().map(Object::Node),
            Kind::Secret => self.secrets.get(name).cloned().map(Object::Secret),
            Kind::Service => self.services.get(name).cloned().map(Object::Service),
            Kind::EndpointSlice => self.endpoint_slices.get(name).cloned().map(Object::EndpointSlice),
            Kind::IngressClass => self.ingress_classes.get(&name.name).cloned().map(Object::IngressClass),
            Kind::Ingress => self.ingresses.get(name).cloned().map(Object::Ingress),
            Kind::GatewayClass => self.gateway_classes.get(&name.name).cloned().map(Object::GatewayClass),
            Kind::Gateway => self.gateways.get(name).cloned().map(Object::Gateway),
            Kind::HttpRoute => self.http_routes.get(name).cloned().map(Object::HttpRoute),
            Kind::ReferenceGrant => self.reference_grants.get(name).cloned().map(Object::ReferenceGrant),
            Kind::LbPool => self.lb_pools.get(&name.name).cloned().map(Object::LbPool),
            Kind::CiliumNode => self.cilium_nodes.get(&name.name).cloned().map(Object::CiliumNode),
            Kind::Pod => self.pods.get(name).cloned().map(Object::Pod),
            Kind::CiliumIdentity => {
                self.cilium_identities.get(&name.name).cloned().map(Object::CiliumIdentity)
            }
            Kind::CiliumEndpoint => self.cilium_endpoints.get(name).cloned().map(Object::CiliumEndpoint),
        }
    }

    /// Takes the object of this kind and name out, if it is in.
    pub fn remove(&mut self, kind: Kind, name: &NamespacedName) {
        match kind {
            Kind::Namespace => drop(self.namespaces.remove(&name.name)),
            Kind::Node => drop(self.nodes.remove(&name.name)),
            Kind::Secret => drop(self.secrets.remove(name)),
            Kind::Service => drop(self.services.remove(name)),
            Kind::EndpointSlice => drop(self.endpoint_slices.remove(name)),
            Kind::IngressClass => drop(self.ingress_classes.remove(&name.name)),
            Kind::Ingress => drop(self.ingresses.remove(name)),
            Kind::GatewayClass => drop(self.gateway_classes.remove(&name.name)),
            Kind::Gateway => drop(self.gateways.remove(name)),
            Kind::HttpRoute => drop(self.http_routes.remove(name)),
            Kind::ReferenceGrant => drop(self.reference_grants.remove(name)),
            Kind::LbPool => drop(self.lb_pools.remove(&name.name)),
            Kind::CiliumNode => drop(self.cilium_nodes.remove(&name.name)),
            Kind::Pod => drop(self.pods.remove(name)),
            Kind::CiliumIdentity => drop(self.cilium_identities.remove(&name.name)),
            Kind::CiliumEndpoint => drop(self.cilium_endpoints.remove(name)),
        }
    }

    /// All objects, by kind in the order of [`Kind::ALL`], then by key.
    pub fn iter(&self) -> impl Iterator<Item = Object> {
        let namespaces = self.namespaces.values();
        namespaces
            .map(|o| Object::Namespace(Arc::clone(o)))
            .chain(self.nodes.values().map(|o| Object::Node(Arc::clone(o))))
            .chain(self.secrets.values().map(|o| Object::Secret(Arc::clone(o))))
            .chain(self.services.values().map(|o| Object::Service(Arc::clone(o))))
            .chain(self.endpoint_slices.values().map(|o| Object::EndpointSlice(Arc::clone(o))))
            .chain(self.ingress_classes.values().map(|o| Object::IngressClass(Arc::clone(o))))
            .chain(self.ingresses.values().map(|o| Object::Ingress(Arc::clone(o))))
            .chain(self.gateway_classes.values().map(|o| Object::GatewayClass(Arc::clone(o))))
            .chain(self.gateways.values().map(|o| Object::Gateway(Arc::clone(o))))
            .chain(self.http_routes.values().map(|o| Object::HttpRoute(Arc::clone(o))))
            .chain(self.reference_grants.values().map(|o| Object::ReferenceGrant(Arc::clone(o))))
            .chain(self.lb_pools.values().map(|o| Object::LbPool(Arc::clone(o))))
            .chain(self.cilium_nodes.values().map(|o| Object::CiliumNode(Arc::clone(o))))
            .chain(self.pods.values().map(|o| Object::Pod(Arc::clone(o))))
            .chain(self.cilium_identities.values().map(|o| Object::CiliumIdentity(Arc::clone(o))))
            .chain(self.cilium_endpoints.values().map(|o| Object::CiliumEndpoint(Arc::clone(o))))
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.namespaces.len()
            + self.nodes.len()
            + self.secrets.len()
            + self.services.len()
            + self.endpoint_slices.len()
            + self.ingress_classes.len()
            + self.ingresses.len()
            + self.gateway_classes.len()
            + self.gateways.len()
            + self.http_routes.len()
            + self.reference_grants.len()
            + self.lb_pools.len()
            + self.cilium_nodes.len()
            + self.pods.len()
            + self.cilium_identities.len()
            + self.cilium_endpoints.len()
    }

    /// Whether everything but nodes and pods is one and the same in memory: then nothing that is made of Services, routes
    /// and the like has changed. Costs a comparison of pointers a kind.
    pub fn is_same_but_nodes_and_pods(&self, other: &Self) -> bool {
        self.namespaces.ptr_eq(&other.namespaces)
            && self.secrets.ptr_eq(&other.secrets)
            && self.services.ptr_eq(&other.services)
            && self.endpoint_slices.ptr_eq(&other.endpoint_slices)
            && self.ingress_classes.ptr_eq(&other.ingress_classes)
            && self.ingresses.ptr_eq(&other.ingresses)
            && self.gateway_classes.ptr_eq(&other.gateway_classes)
            && self.gateways.ptr_eq(&other.gateways)
            && self.http_routes.ptr_eq(&other.http_routes)
            && self.reference_grants.ptr_eq(&other.reference_grants)
            && self.lb_pools.ptr_eq(&other.lb_pools)
    }

    /// True when there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FromIterator<Object> for ObjectSet {
    fn from_iter<I: IntoIterator<Item = Object>>(objects: I) -> Self {
        let mut set = Self::default();
        objects.into_iter().for_each(|object| set.insert(object));
        set
    }
}
