//! The API objects that Millrace reads: Kubernetes, Gateway API and Cilium custom resource types, and the
//! typed set of them that every translator takes as its input.
//!
//! Nothing comes in: readers (`k8s/files`, `k8s/reflect`) make [`Object`]s, with the same checks, and put them into
//! an [`ObjectSet`]; `k8s/ingest`, `ingress` and `gateway-api` read that set. This is the only crate that names
//! `k8s-openapi` and `gateway-api`, so a new version of the API is one change here. Start reading at
//! [`ObjectSet`], then [`Stored`]. The crate spawns no tasks and does no I/O.

mod change;
mod cilium_endpoint;
mod cilium_node;
mod decode;
mod finding;
mod kind;
mod lb_pool;
mod object;
mod path;
mod secret;
mod set;
mod stored;
mod validate;

pub use change::{ChangeKind, ObjectChange};
pub use cilium_endpoint::{
    CiliumAddressPair, CiliumEndpoint, CiliumEndpointIdentity, CiliumEndpointNetworking,
    CiliumEndpointStatus, CiliumIdentity,
};
pub use cilium_node::{
    CiliumNode, CiliumNodeAddress, CiliumNodeIpam, CiliumNodeIpamStatus, CiliumNodeOperatorStatus,
    CiliumNodeRangeStatus, CiliumNodeSpec, CiliumNodeStatus,
};
pub use decode::{Facts, normalise};
pub use finding::{Finding, Severity};
pub use kind::Kind;
pub use lb_pool::{LbPool, LbPoolBlock, LbPoolSpec};
pub use object::Object;
pub use path::{FieldPath, Step};
pub use secret::Secret;
pub use set::{ObjectMap, ObjectSet};
pub use stored::{Resource, Source, Stored};

/// Core API, `v1`. [`Secret`] is not among them: the crate has its own, which never prints its bytes.
pub mod core {
    pub use k8s_openapi::api::core::v1::{
        Namespace, NamespaceSpec, Node, NodeAddress, NodeSpec, NodeStatus, ObjectReference, Pod, PodSpec,
        Secret as WireSecret, Service, ServicePort, ServiceSpec, TypedLocalObjectReference,
    };
}

/// `networking.k8s.io/v1`.
pub mod networking {
    pub use k8s_openapi::api::networking::v1::{
        HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressClass,
        IngressClassParametersReference, IngressClassSpec, IngressRule, IngressServiceBackend, IngressSpec,
        IngressTLS, ServiceBackendPort,
    };
}

/// `discovery.k8s.io/v1`.
pub mod discovery {
    pub use k8s_openapi::api::discovery::v1::{
        Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice,
    };
}

/// `meta/v1` and the small types that several groups share.
pub mod meta {
    pub use k8s_openapi::ByteString;
    pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
        Condition, LabelSelector, LabelSelectorRequirement, ObjectMeta, Time,
    };
    pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
}

/// `gateway.networking.k8s.io`, experimental channel of 1.5.1, which holds all of the standard one.
pub mod gateway {
    pub use gateway_api::Duration;
    pub use gateway_api::experimental::gatewayclasses::*;
    pub use gateway_api::experimental::gateways::*;
    pub use gateway_api::experimental::httproutes::*;
    pub use gateway_api::experimental::referencegrants::*;
}

#[cfg(test)]
mod tests;
