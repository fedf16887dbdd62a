//! The two encodings of one session: their messages are turned into what the session takes and gives.

use mesh_xds_proto::{
    TAKES_PATCHES, any,
    core::{ControlPlane, Node},
    discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
    },
};

use super::{
    session::{Protocol, Response},
    subscription::{Interest, Request, Sent},
};

/// A request, taken apart.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) node: Option<Node>,
    pub(super) type_url: String,
    pub(super) request: Request,
}

/// The messages of a variant of the protocol.
pub(super) trait Encoding: 'static {
    const PROTOCOL: Protocol;
    type Request: Send + 'static;
    type Response: Send + 'static;

    fn receive(request: Self::Request) -> Received;
    fn respond(response: Response) -> Self::Response;
}

/// `DeltaAggregatedResources`.
pub(super) struct Delta;

impl Encoding for Delta {
    const PROTOCOL: Protocol = Protocol::Delta;
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn receive(request: DeltaDiscoveryRequest) -> Received {
        let features = request.node.as_ref().map(|node| node.client_features.as_slice()).unwrap_or_default();
        let takes_patches = features.iter().any(|feature| feature == TAKES_PATCHES);
        Received {
            node: request.node,
            type_url: request.type_url,
            request: Request {
                interest: Interest::Changed {
                    subscribe: request.resource_names_subscribe,
                    unsubscribe: request.resource_names_unsubscribe,
                },
                nonce: request.response_nonce,
                error_detail: request.error_detail,
                held: request.initial_resource_versions.into_iter().collect(),
                takes_patches,
            },
        }
    }

    fn respond(response: Response) -> DeltaDiscoveryResponse {
        let resource = |Sent { name, resource, patch }: Sent| Resource {
            name,
            version: resource.version.clone(),
            resource: Some(patch.map_or_else(|| resource.body.clone(), |patch| any(&patch))),
            ..Default::default()
        };
        DeltaDiscoveryResponse {
            type_url: response.type_url.to_owned(),
            nonce: response.nonce,
            system_version_info: response.revision.to_string(),
            resources: response.resources.into_iter().map(resource).collect(),
            removed_resources: response.removed,
            control_plane: Some(control_plane()),
            ..Default::default()
        }
    }
}

/// `StreamAggregatedResources`.
pub(super) struct StateOfTheWorld;

impl Encoding for StateOfTheWorld {
    const PROTOCOL: Protocol = Protocol::StateOfTheWorld;
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    /// The version that a client says it has from an earlier stream is not looked at: of what is in it
    /// the server remembers nothing, and the client compares by itself what it gets again.
    fn receive(request: DiscoveryRequest) -> Received {
        Received {
            node: request.node,
            type_url: request.type_url,
            request: Request {
                interest: Interest::Names(request.resource_names),
                nonce: request.response_nonce,
                error_detail: request.error_detail,
                held: Vec::new(),
                takes_patches: false,
            },
        }
    }

    fn respond(response: Response) -> DiscoveryResponse {
        DiscoveryResponse {
            version_info: response.version,
            resources: response.resources.into_iter().map(|sent| sent.resource.body.clone()).collect(),
            type_url: response.type_url.to_owned(),
            nonce: response.nonce,
            control_plane: Some(control_plane()),
            ..Default::default()
        }
    }
}

fn control_plane() -> ControlPlane {
    ControlPlane { identifier: "millrace".to_owned() }
}
