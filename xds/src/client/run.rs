//! The life of the client: connect, hear, apply, answer, and again.

use std::{
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    future::poll_fn,
    path::PathBuf,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use mesh_xds_proto::{
    Patch,
    discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use tokio::{
    net::UnixStream,
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use super::{
    ApplyOutcome, ClientConfig, ConfigSink, ConnectionStatus, DeltaResource, backoff::Backoff,
    requests::Requests, versions::Versions,
};

/// A unix socket answers at once or not at all; the server may be busy starting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A stream that lived this long was a success, even if it brought nothing.
const STABLE: Duration = Duration::from_secs(1);
/// A large table in a few frames, in place of one for each 16 KiB.
const FRAME_BYTES: u32 = 1 << 20;
/// Vain attempts, a second and a half, after which it is said why: a server that starts beside us is in time.
const TOLD_AFTER: u32 = 5;
/// Requests on their way to the socket; more wait in the client, which keeps reading.
const OUTGOING: usize = 8;

/// Keeps a [`ConfigSink`] equal to what the server has for this node.
#[derive(Debug)]
pub struct Client<S> {
    config: ClientConfig,
    sink: S,
    versions: Versions,
    status: watch::Sender<ConnectionStatus>,
}

impl<S: ConfigSink> Client<S> {
    /// A client that does nothing until it runs, and the watch of its connection.
    pub fn new(config: ClientConfig, sink: S) -> (Self, watch::Receiver<ConnectionStatus>) {
        let (status, watch) = watch::channel(ConnectionStatus::Disconnected {
            since: Instant::now(),
            attempts: 0,
            error: String::new(),
        });
        (Self { config, sink, versions: Versions::default(), status }, watch)
    }

    /// Tells what the sink holds from an earlier life, as type URL, name and version, before the
    /// client runs: the server then sends what differs and names what is gone.
    #[must_use]
    pub fn holding(mut self, resources: impl IntoIterator<Item = (String, String, String)>) -> Self {
        for (type_url, name, version) in resources {
            self.versions.applied(&type_url, name, version);
        }
        self
    }

    /// Connects, and reconnects for ever: after 50 ms at first, 5 s at most.
    ///
    /// May be dropped at any await: a response is applied whole or not at all. The sink goes with
    /// it.
    pub async fn run(mut self) -> Infallible {
        let mut backoff = Backoff::default();
        loop {
            let opened = Instant::now();
            let mut heard = false;
            let Err(error) = self.stream(&mut heard).await;
            if heard || opened.elapsed() >= STABLE {
                backoff.reset();
            }
            self.disconnected(&error);
            tokio::time::sleep(backoff.next()).await;
        }
    }

    fn disconnected(&self, status: &Status) {
        let error = format!("{}: {}", status.code().description(), status.message());
        self.status.send_modify(|status| {
            let (since, attempts) = match status {
                ConnectionStatus::Connected { .. } => {
                    tracing::warn!(error, "configuration server lost; the last good configuration stays");
                    (Instant::now(), 0)
                }
                ConnectionStatus::Disconnected { since, attempts, .. } => {
                    let attempts = attempts.saturating_add(1);
                    if attempts == TOLD_AFTER {
                        let socket = self.config.socket.display();
                        tracing::warn!(error, %socket, "configuration server cannot be reached; it is tried again");
                    }
                    (*since, attempts)
                }
            };
            *status = ConnectionStatus::Disconnected { since, attempts, error };
        });
    }

    /// One stream, from connecting to its end. `heard` is set with the first response.
    async fn stream(&mut self, heard: &mut bool) -> Result<Infallible, Status> {
        let channel = connect(self.config.socket.clone()).await?;
        // A single resource may be larger than what the server puts together.
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        let (sender, receiver) = mpsc::channel(OUTGOING);

        // The first requests are on their way before the server answers anything.
        let mut requests = Requests::new(&self.config, self.sink.takes_patches());
        let mut outgoing = VecDeque::new();
        self.subscribe(&mut requests, &mut outgoing);
        while let Some(request) = outgoing.pop_front() {
            sender.try_send(request).expect("one request a type fits");
        }
        let mut responses =
            client.delta_aggregated_resources(ReceiverStream::new(receiver)).await?.into_inner();
        self.status.send_replace(ConnectionStatus::Connected { since: Instant::now() });
        tracing::info!(socket = %self.config.socket.display(), "configuration server connected");

        loop {
            tokio::select! {
                // Waiting for a place must not keep the client from reading, or both ends could
                // wait for each other to read.
                place = sender.reserve(), if !outgoing.is_empty() => {
                    let place = place.map_err(|_| Status::unavailable("the stream was closed"))?;
                    place.send(outgoing.pop_front().expect("checked before the wait"));
                }
                (type_url, name) = poll_fn(|cx| self.sink.poll_again(cx)) => {
                    outgoing.push_back(requests.again(type_url, name));
                }
                response = responses.message() => {
                    let response = response?.ok_or_else(|| Status::unavailable("the server ended the stream"))?;
                    *heard = true;
                    let answer = self.apply(response);
                    // New names go before the answer, so that the server knows of them when it
                    // decides what comes next.
                    self.subscribe(&mut requests, &mut outgoing);
                    outgoing.push_back(answer);
                }
            }
        }
    }

    fn subscribe(&mut self, requests: &mut Requests, outgoing: &mut VecDeque<DeltaDiscoveryRequest>) {
        let sink = &self.sink;
        outgoing.extend(requests.subscribe(|type_url| sink.subscription(type_url), &mut self.versions));
    }

    /// Takes one response and says what to answer, without I/O: what [`Client::run`] does with each.
    pub fn apply(&mut self, response: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
        let DeltaDiscoveryResponse { type_url, nonce, resources, removed_resources, .. } = response;
        // The server says that there is nothing: the sink knows no better.
        if resources.is_empty() && removed_resources.is_empty() {
            return Requests::answer(type_url, nonce, &ApplyOutcome::default());
        }
        let patches = self.sink.takes_patches();
        let mut incomplete = Vec::new();
        let mut added = Vec::with_capacity(resources.len());
        let mut versions = Vec::with_capacity(resources.len());
        for resource in resources {
            match resource.resource {
                Some(body) if body.type_url == type_url || (patches && body.type_url == Patch::TYPE_URL) => {
                    versions.push((resource.name.clone(), resource.version.clone()));
                    added.push(DeltaResource { name: resource.name, version: resource.version, body });
                }
                Some(body) => {
                    let message = format!("resource: {} in a response of {type_url}", body.type_url);
                    incomplete.push((resource.name, message));
                }
                None => incomplete.push((resource.name, "resource: missing".to_owned())),
            }
        }

        self.versions.removed(&type_url, &removed_resources);
        let ApplyOutcome { mut rejected } = self.sink.apply(&type_url, added, removed_resources);
        let refused: BTreeSet<&str> = rejected.iter().map(|(name, _)| name.as_str()).collect();
        for (name, version) in versions {
            // What is held of a refused resource is its last good version, or a part of this one. The next
            // server is told of the name, so that it says when the resource is gone, and of no version, so that it
            // sends it and hears what became of it.
            let version = if refused.contains(name.as_str()) { String::new() } else { version };
            self.versions.applied(&type_url, name, version);
        }
        rejected.extend(incomplete);
        for (name, message) in &rejected {
            tracing::warn!(type_url, name, error = message, "resource refused; its last good version stays");
        }
        Requests::answer(type_url, nonce, &ApplyOutcome { rejected })
    }
}

async fn connect(socket: PathBuf) -> Result<Channel, Status> {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The name only fills the authority: the connector goes to the socket.
    Endpoint::from_static("http://localhost")
        .connect_timeout(CONNECT_TIMEOUT)
        .max_frame_size(FRAME_BYTES)
        .connect_with_connector(connector)
        .await
        .map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            Status::unavailable(format!("cannot connect: {cause}"))
        })
}
