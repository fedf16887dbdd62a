//! A stream without a socket: messages in, messages out.

use std::sync::Arc;

use mesh_xds_proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};

use super::cache::Snapshot;
use super::encoding::{Delta, Encoding, StateOfTheWorld};
use super::session::{Protocol, Session, SessionLimits, TooManyNames};

/// What the server says to one client, for who carries the messages: tests and fuzz targets. A client speaks
/// one variant; messages of the other are answered as if they were of its own.
#[derive(Debug)]
pub struct Dialogue(Session);

impl Dialogue {
    /// A client that has asked for nothing yet.
    #[must_use]
    pub fn new(protocol: Protocol, limits: SessionLimits) -> Self {
        Self(Session::new(protocol, limits))
    }

    /// Takes a request.
    ///
    /// # Errors
    /// The client asks for more than it may; its stream is to be ended.
    pub fn receive_delta(&mut self, request: DeltaDiscoveryRequest) -> Result<(), TooManyNames> {
        self.receive::<Delta>(request)
    }

    /// Takes a request.
    ///
    /// # Errors
    /// The client asks for more than it may; its stream is to be ended.
    pub fn receive_state(&mut self, request: DiscoveryRequest) -> Result<(), TooManyNames> {
        self.receive::<StateOfTheWorld>(request)
    }

    /// The next response, or `None` until a request comes or another snapshot is served.
    pub fn next_delta(&mut self, snapshot: &Arc<Snapshot>) -> Option<DeltaDiscoveryResponse> {
        self.0.next(snapshot).map(Delta::respond)
    }

    /// The next response, or `None` until a request comes or another snapshot is served.
    pub fn next_state(&mut self, snapshot: &Arc<Snapshot>) -> Option<DiscoveryResponse> {
        self.0.next(snapshot).map(StateOfTheWorld::respond)
    }

    /// Whether the client has answered everything that the snapshot has for it. Asked after no response was
    /// left for the same snapshot.
    #[must_use]
    pub fn is_settled(&self, snapshot: &Snapshot) -> bool {
        self.0.is_settled(snapshot)
    }

    fn receive<E: Encoding>(&mut self, request: E::Request) -> Result<(), TooManyNames> {
        let received = E::receive(request);
        self.0.receive(&received.type_url, received.request)
    }
}
