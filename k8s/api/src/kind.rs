//! Which kinds are read.

use std::fmt;

/// A kind that Millrace reads. The order is the order of dumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1 Namespace`.
    Namespace,
    /// `v1 Node`.
    Node,
    /// `v1 Secret`.
    Secret,
    /// `v1 Service`.
    Service,
    /// `discovery.k8s.io/v1 EndpointSlice`.
    EndpointSlice,
    /// `networking.k8s.io/v1 IngressClass`.
    IngressClass,
    /// `networking.k8s.io/v1 Ingress`.
    Ingress,
    /// `gateway.networking.k8s.io GatewayClass`.
    GatewayClass,
    /// `gateway.networking.k8s.io Gateway`.
    Gateway,
    /// `gateway.networking.k8s.io HTTPRoute`.
    HttpRoute,
    /// `gateway.networking.k8s.io ReferenceGrant`.
    ReferenceGrant,
    /// `cilium.io CiliumLoadBalancerIPPool`.
    LbPool,
    /// `cilium.io CiliumNode`.
    CiliumNode,
    /// `v1 Pod`.
    Pod,
    /// `cilium.io CiliumIdentity`.
    CiliumIdentity,
    /// `cilium.io CiliumEndpoint`.
    CiliumEndpoint,
}

impl Kind {
    /// All of them, in order.
    pub const ALL: [Self; 16] = [
        Self::Namespace,
        Self::Node,
        Self::Secret,
        Self::Service,
        Self::EndpointSlice,
        Self::IngressClass,
        Self::Ingress,
        Self::GatewayClass,
        Self::Gateway,
        Self::HttpRoute,
        Self::ReferenceGrant,
        Self::LbPool,
        Self::CiliumNode,
        Self::Pod,
        Self::CiliumIdentity,
        Self::CiliumEndpoint,
    ];

    /// Whether the kind is read only where Millrace is the network of the pods.
    pub const fn is_of_pods(self) -> bool {
        matches!(self, Self::Pod | Self::CiliumIdentity | Self::CiliumEndpoint)
    }

    /// The kind of this group and name, in whatever version.
    pub fn find(group: &str, kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.group() == group && k.as_str() == kind)
    }

    /// `kind` as manifests write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Secret => "Secret",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::IngressClass => "IngressClass",
            Self::Ingress => "Ingress",
            Self::GatewayClass => "GatewayClass",
            Self::Gateway => "Gateway",
            Self::HttpRoute => "HTTPRoute",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::LbPool => "CiliumLoadBalancerIPPool",
            Self::CiliumNode => "CiliumNode",
            Self::Pod => "Pod",
            Self::CiliumIdentity => "CiliumIdentity",
            Self::CiliumEndpoint => "CiliumEndpoint",
        }
    }

    /// Name of the resource in the API's paths, such as `httproutes`.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Node => "nodes",
            Self::Secret => "secrets",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
            Self::IngressClass => "ingressclasses",
            Self::Ingress => "ingresses",
            Self::GatewayClass => "gatewayclasses",
            Self::Gateway => "gateways",
            Self::HttpRoute => "httproutes",
            Self::ReferenceGrant => "referencegrants",
            Self::LbPool => "ciliumloadbalancerippools",
            Self::CiliumNode => "ciliumnodes",
            Self::Pod => "pods",
            Self::CiliumIdentity => "ciliumidentities",
            Self::CiliumEndpoint => "ciliumendpoints",
        }
    }

    /// API group, empty for the core group.
    pub const fn group(self) -> &'static str {
        match self {
            Self::Namespace | Self::Node | Self::Secret | Self::Service | Self::Pod => "",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::IngressClass | Self::Ingress => "networking.k8s.io",
            Self::GatewayClass | Self::Gateway | Self::HttpRoute | Self::ReferenceGrant => {
                "gateway.networking.k8s.io"
            }
            Self::LbPool | Self::CiliumNode | Self::CiliumIdentity | Self::CiliumEndpoint => "cilium.io",
        }
    }

    /// Versions that are read, the preferred one first. All of a kind have one shape.
    pub const fn versions(self) -> &'static [&'static str] {
        match self {
            Self::GatewayClass | Self::Gateway | Self::HttpRoute | Self::ReferenceGrant => &["v1", "v1beta1"],
            Self::LbPool => &["v2", "v2alpha1"],
            Self::CiliumNode | Self::CiliumIdentity | Self::CiliumEndpoint => &["v2"],
            _ => &["v1"],
        }
    }

    /// `apiVersion` of the preferred version.
    pub fn api_version(self) -> String {
        let version = self.versions()[0];
        match self.group() {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        }
    }

    /// Whether the kind comes with an add-on (a custom resource definition), so that a cluster may lack it.
    pub const fn is_custom(self) -> bool {
        matches!(
            self,
            Self::GatewayClass
                | Self::Gateway
                | Self::HttpRoute
                | Self::ReferenceGrant
                | Self::LbPool
                | Self::CiliumNode
                | Self::CiliumIdentity
                | Self::CiliumEndpoint
        )
    }

    /// Whether objects of the kind live in a namespace.
    pub const fn namespaced(self) -> bool {
        !matches!(
            self,
            Self::Namespace
                | Self::Node
                | Self::IngressClass
                | Self::GatewayClass
                | Self::LbPool
                | Self::CiliumNode
                | Self::CiliumIdentity
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
