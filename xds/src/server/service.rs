//! The gRPC side of a stream: polls the session, writes what it says.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{FutureExt, Stream, stream};
use mesh_xds_proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    aggregated_discovery_service_server::AggregatedDiscoveryService,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::{Request, Response, Status, Streaming, transport::server::UdsConnectInfo};

use super::{
    cache::{ResourceCache, Snapshot},
    encoding::{Delta, Encoding, Received, StateOfTheWorld},
    rejection,
    session::{Session, SessionLimits},
    status::{Registration, ServerHandle},
};

/// Longer node ids are cut: they end up in logs and status.
const MAX_NODE_ID_CHARS: usize = 256;

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(super) struct Service {
    pub(super) cache: ResourceCache,
    pub(super) handle: ServerHandle,
    pub(super) limits: SessionLimits,
    pub(super) streams: Arc<Semaphore>,
    /// Closed when the server stops.
    pub(super) stopping: watch::Receiver<()>,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        self.open::<StateOfTheWorld>(request)
    }

    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.open::<Delta>(request)
    }
}

impl Service {
    fn open<E: Encoding>(
        &self,
        request: Request<Streaming<E::Request>>,
    ) -> Result<Response<Responses<E::Response>>, Status> {
        let permit = Arc::clone(&self.streams)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("as many streams as allowed are open"))?;
        let pid =
            request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred.as_ref()?.pid());
        let client = ClientStream::<E> {
            requests: request.into_inner(),
            registration: self.handle.register(pid, Session::new(E::PROTOCOL, self.limits)),
            snapshots: self.cache.watch(),
            stopping: self.stopping.clone(),
            _permit: permit,
        };
        // A stream that is polled instead of a task that pushes: the next response is made when the
        // last one has left, so a slow client needs no queue and gets the latest state.
        Ok(Response::new(Box::pin(stream::try_unfold(client, ClientStream::next))))
    }
}

struct ClientStream<E: Encoding> {
    requests: Streaming<E::Request>,
    registration: Registration,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    stopping: watch::Receiver<()>,
    _permit: OwnedSemaphorePermit,
}

impl<E: Encoding> ClientStream<E> {
    /// The next response; `None` when the client closed its side or the server stops. May be
    /// dropped at any await: requests and snapshots are taken whole or not at all.
    async fn next(mut self) -> Result<Option<(E::Response, Self)>, Status> {
        loop {
            let snapshot = self.snapshots.borrow_and_update().clone();
            let response = self.registration.state().session.next(&snapshot);
            if let Some(response) = response {
                tracing::debug!(
                    type_url = response.type_url,
                    revision = response.revision,
                    added = response.resources.len(),
                    removed = response.removed.len(),
                    "response"
                );
                return Ok(Some((E::respond(response), self)));
            }
            // Requests that are here already may ask for more.
            let request = match self.requests.message().now_or_never() {
                Some(request) => request,
                None => {
                    let settled = self.registration.state().session.is_settled(&snapshot);
                    if settled {
                        self.registration.settled(snapshot.revision());
                    }
                    tokio::select! {
                        request = self.requests.message() => request,
                        changed = self.snapshots.changed() => match changed {
                            Ok(()) => continue,
                            Err(_) => return Ok(None),
                        },
                        _ = self.stopping.changed() => return Ok(None),
                    }
                }
            };
            match request {
                Ok(Some(request)) => self.receive(request)?,
                Ok(None) => return Ok(None),
                Err(status) => {
                    tracing::debug!(error = %status, "stream ended");
                    return Ok(None);
                }
            }
        }
    }

    fn receive(&mut self, request: E::Request) -> Result<(), Status> {
        let Received { node, type_url, request } = E::receive(request);
        let mut state = self.registration.state();
        if let Some(node) = node
            && state.node_id.is_empty()
        {
            state.node_id = node.id.chars().take(MAX_NODE_ID_CHARS).collect();
            state.node_cluster = node.cluster.chars().take(MAX_NODE_ID_CHARS).collect();
            tracing::info!(node = state.node_id, protocol = E::PROTOCOL.name(), "proxy connected");
        }
        let nacked = request.error_detail.is_some();
        if let Some(error) = &request.error_detail {
            tracing::warn!(
                node = state.node_id,
                type_url,
                error = rejection::shortened(&error.message),
                "proxy refused resources, its last good ones stay"
            );
        }
        let received = state.session.receive(&type_url, request);
        drop(state);
        if nacked {
            self.registration.nacked();
        }
        received.map_err(|error| Status::resource_exhausted(error.to_string()))
    }
}
