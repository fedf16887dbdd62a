//! One object of any kind.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mesh_model::{NamespacedName, ObjectKey, Origin};

use crate::cilium_endpoint::{CiliumEndpoint, CiliumIdentity};
use crate::cilium_node::CiliumNode;
use crate::gateway::{Gateway, GatewayClass, HttpRoute, ReferenceGrant};
use crate::kind::Kind;
use crate::lb_pool::LbPool;
use crate::secret::Secret;
use crate::stored::{Resource, Source, Stored};

/// An object of one of the kinds that are read. Cloning costs a reference count.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A Namespace.
    Namespace(Arc<Stored<Namespace>>),
    /// A Node.
    Node(Arc<Stored<Node>>),
    /// A Secret.
    Secret(Arc<Stored<Secret>>),
    /// A Service.
    Service(Arc<Stored<Service>>),
    /// An EndpointSlice.
    EndpointSlice(Arc<Stored<EndpointSlice>>),
    /// An IngressClass.
    IngressClass(Arc<Stored<IngressClass>>),
    /// An Ingress.
    Ingress(Arc<Stored<Ingress>>),
    /// A GatewayClass.
    GatewayClass(Arc<Stored<GatewayClass>>),
    /// A Gateway.
    Gateway(Arc<Stored<Gateway>>),
    /// An HTTPRoute.
    HttpRoute(Arc<Stored<HttpRoute>>),
    /// A ReferenceGrant.
    ReferenceGrant(Arc<Stored<ReferenceGrant>>),
    /// A CiliumLoadBalancerIPPool.
    LbPool(Arc<Stored<LbPool>>),
    /// A CiliumNode.
    CiliumNode(Arc<Stored<CiliumNode>>),
    /// A Pod.
    Pod(Arc<Stored<Pod>>),
    /// A CiliumIdentity.
    CiliumIdentity(Arc<Stored<CiliumIdentity>>),
    /// A CiliumEndpoint.
    CiliumEndpoint(Arc<Stored<CiliumEndpoint>>),
}

/// The same expression for the content of every variant.
macro_rules! each {
    ($object:expr, $stored:ident => $result:expr) => {
        match $object {
            Object::Namespace($stored) => $result,
            Object::Node($stored) => $result,
            Object::Secret($stored) => $result,
            Object::Service($stored) => $result,
            Object::EndpointSlice($stored) => $result,
            Object::IngressClass($stored) => $result,
            Object::Ingress($stored) => $result,
            Object::GatewayClass($stored) => $result,
            Object::Gateway($stored) => $result,
            Object::HttpRoute($stored) => $result,
            Object::ReferenceGrant($stored) => $result,
            Object::LbPool($stored) => $result,
            Object::CiliumNode($stored) => $result,
            Object::Pod($stored) => $result,
            Object::CiliumIdentity($stored) => $result,
            Object::CiliumEndpoint($stored) => $result,
        }
    };
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Node(_) => Kind::Node,
            Self::Secret(_) => Kind::Secret,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::IngressClass(_) => Kind::IngressClass,
            Self::Ingress(_) => Kind::Ingress,
            Self::GatewayClass(_) => Kind::GatewayClass,
            Self::Gateway(_) => Kind::Gateway,
            Self::HttpRoute(_) => Kind::HttpRoute,
            Self::ReferenceGrant(_) => Kind::ReferenceGrant,
            Self::LbPool(_) => Kind::LbPool,
            Self::CiliumNode(_) => Kind::CiliumNode,
            Self::Pod(_) => Kind::Pod,
            Self::CiliumIdentity(_) => Kind::CiliumIdentity,
            Self::CiliumEndpoint(_) => Kind::CiliumEndpoint,
        }
    }

    /// True when both are one and the same object in memory, which tells cheaply that nothing changed.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        let address = |object: &Self| each!(object, stored => Arc::as_ptr(stored).cast::<()>());
        address(self) == address(other)
    }

    /// True when both are the same object with the same content: only facts beside it may differ.
    pub fn same_content(&self, other: &Self) -> bool {
        macro_rules! same {
            ($($variant:ident)*) => {
                match (self, other) {
                    $((Self::$variant(a), Self::$variant(b)) => a.uid == b.uid && a.object == b.object,)*
                    _ => false,
                }
            };
        }
        same!(Namespace Node Secret Service EndpointSlice IngressClass Ingress
              GatewayClass Gateway HttpRoute ReferenceGrant LbPool CiliumNode
              Pod CiliumIdentity CiliumEndpoint)
    }

    /// `metadata`.
    pub fn metadata(&self) -> &ObjectMeta {
        each!(self, stored => stored.object.metadata())
    }

    /// Namespace and name.
    pub fn name(&self) -> NamespacedName {
        each!(self, stored => stored.object.namespaced_name())
    }

    /// Group, kind, namespace and name; prints as `Kind namespace/name`.
    pub fn key(&self) -> ObjectKey {
        each!(self, stored => stored.key())
    }

    /// The whole object as the origin of a row.
    pub fn origin(&self) -> Origin {
        each!(self, stored => stored.origin())
    }

    /// Where it was read.
    pub fn source(&self) -> &Source {
        each!(self, stored => &stored.source)
    }

    /// Its uid.
    pub fn uid(&self) -> &str {
        each!(self, stored => &stored.uid)
    }

    /// Its generation.
    pub fn generation(&self) -> i64 {
        each!(self, stored => stored.generation)
    }
}

/// Kinds whose type has a `metadata` field, and the variant they go into.
macro_rules! resources {
    ($($type:ident)*) => {$(
        impl Resource for $type {
            const KIND: Kind = Kind::$type;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }
        }

        impl From<Stored<$type>> for Object {
            fn from(stored: Stored<$type>) -> Self {
                Self::$type(Arc::new(stored))
            }
        }
    )*};
}

resources! {
    Namespace Node Secret Service EndpointSlice IngressClass Ingress
    GatewayClass Gateway HttpRoute ReferenceGrant LbPool CiliumNode
    Pod CiliumIdentity CiliumEndpoint
}
