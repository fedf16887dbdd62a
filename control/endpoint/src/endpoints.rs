//! All endpoints of the node: made, looked at, taken away, and known again after a restart.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::endpoint::{Device, Endpoint, EndpointState, Wanted};
use crate::error::EndpointError;
use crate::netlink::Requests;
use crate::records::Records;
use crate::strangers::{self, Stranger};
use crate::{host, link, pod};

/// Container and interface.
type Key = (String, String);

/// All endpoints of the node. Calls for different containers may run side by side.
#[derive(Debug)]
pub struct Endpoints {
    records: Records,
    leaves_unreachable: bool,
    live: Mutex<BTreeMap<Key, Endpoint>>,
}

/// What became of the endpoints that an earlier agent knew.
#[derive(Debug, Default)]
pub struct Restored {
    /// Those that live on.
    pub kept: Vec<Endpoint>,
    /// Those whose pod is gone, or that were never finished. They have been taken away.
    pub dropped: Vec<Endpoint>,
    /// Records that cannot be read; they have been moved aside.
    pub unreadable: Vec<EndpointError>,
    /// Devices of pods without a record: whose could not be read, above all.
    pub strangers: Vec<Stranger>,
}

impl Endpoints {
    /// Reads the records in this folder and holds them against the kernel.
    ///
    /// # Errors
    /// When the folder or the kernel cannot be read. One bad record is no error.
    pub fn restore(folder: PathBuf) -> Result<(Self, Restored), EndpointError> {
        let records = Records::open(folder)?;
        let (known, unreadable) = records.read()?;
        let mut restored = Restored { unreadable, ..Restored::default() };
        let mut node = Requests::here()?;
        for endpoint in known {
            let is_there = match link::find(&mut node, &endpoint.device.name) {
                Ok(device) => device == endpoint.device,
                Err(error) if error.is_absent() => false,
                Err(error) => return Err(error),
            };
            if is_there && endpoint.state == EndpointState::Ready {
                restored.kept.push(endpoint);
            } else {
                link::remove(&mut node, &endpoint.device)?;
                records.remove(&endpoint)?;
                restored.dropped.push(endpoint);
            }
        }
        restored.strangers = strangers::find(&mut node, &restored.kept)?;
        let live = restored.kept.iter().map(|endpoint| (key_of(endpoint), endpoint.clone())).collect();
        Ok((Self { records, leaves_unreachable: false, live: Mutex::new(live) }, restored))
    }

    /// Whether the addresses of endpoints that go are answered with ICMP errors until they are given again. Who talks to
    /// such a pod hears at once that it is gone.
    #[must_use]
    pub fn with_unreachable_routes(self, leaves_unreachable: bool) -> Self {
        Self { leaves_unreachable, ..self }
    }

    /// Makes an endpoint's devices, addresses and routes. It is written down before the kernel is touched, and not
    /// yet ready: the caller brings it under the datapath's programs and then calls [`Self::finish`].
    ///
    /// # Errors
    /// [`EndpointError::Exists`] when the container has this interface; else what the kernel refused, and then
    /// nothing is left of it.
    pub fn create(
        &self,
        wanted: Wanted,
        namespace: BorrowedFd<'_>,
        inside: OwnedFd,
    ) -> Result<Endpoint, EndpointError> {
        let mut endpoint = self.begin(wanted)?;
        let made = self.make(&mut endpoint, namespace, inside);
        match made {
            Ok(()) => Ok(endpoint),
            Err(error) => {
                self.abandon(&endpoint);
                Err(error)
            }
        }
    }

    /// Notes that the runtime may be told of an endpoint.
    pub fn finish(&self, endpoint: &Endpoint) -> Result<Endpoint, EndpointError> {
        let endpoint = Endpoint { state: EndpointState::Ready, ..endpoint.clone() };
        self.records.write(&endpoint)?;
        self.lock().insert(key_of(&endpoint), endpoint.clone());
        Ok(endpoint)
    }

    /// Takes an endpoint away with all it has. None: there is none.
    pub fn remove(&self, container_id: &str, interface: &str) -> Result<Option<Endpoint>, EndpointError> {
        let key = (container_id.to_owned(), interface.to_owned());
        let Some(endpoint) = self.lock().get(&key).cloned() else { return Ok(None) };
        let mut node = Requests::here()?;
        link::remove(&mut node, &endpoint.device)?;
        if self.leaves_unreachable {
            host::refuse(&mut node, &endpoint)?;
        }
        self.records.remove(&endpoint)?;
        self.lock().remove(&key);
        Ok(Some(endpoint))
    }

    /// Takes the device of a container's interface away, and with it all routes to it, where no record tells of it; its
    /// name. None: there is none.
    pub fn remove_stranger(
        &self,
        container_id: &str,
        interface: &str,
    ) -> Result<Option<String>, EndpointError> {
        let device = Device::of(container_id, interface);
        let mut node = Requests::here()?;
        match link::find(&mut node, &device.name) {
            Ok(_) => {}
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error),
        }
        link::remove(&mut node, &device)?;
        Ok(Some(device.name))
    }

    /// What of an endpoint is not as it was made; nothing when all is. The netlink socket is inside of the pod.
    pub fn differences(&self, endpoint: &Endpoint, inside: OwnedFd) -> Result<Vec<String>, EndpointError> {
        let name = &endpoint.device.name;
        let mut differences = match link::find(&mut Requests::here()?, name) {
            Ok(device) if device == endpoint.device => Vec::new(),
            Ok(_) => vec![format!("the node's device {name} is another one")],
            Err(error) if error.is_absent() => vec![format!("the node has no device {name}")],
            Err(error) => return Err(error),
        };
        differences.extend(pod::differences(&mut Requests::over(inside)?, endpoint)?);
        Ok(differences)
    }

    /// The endpoint of a container's interface.
    pub fn get(&self, container_id: &str, interface: &str) -> Option<Endpoint> {
        self.lock().get(&(container_id.to_owned(), interface.to_owned())).cloned()
    }

    /// All endpoints by their numbers.
    pub fn list(&self) -> Vec<Endpoint> {
        let mut endpoints: Vec<Endpoint> = self.lock().values().cloned().collect();
        endpoints.sort_by_key(|endpoint| endpoint.id);
        endpoints
    }

    /// Takes a number and writes the endpoint down.
    fn begin(&self, wanted: Wanted) -> Result<Endpoint, EndpointError> {
        let mut live = self.lock();
        let key = (wanted.container_id.clone(), wanted.interface.clone());
        if live.contains_key(&key) {
            let (container_id, interface) = key;
            return Err(EndpointError::Exists { container_id, interface });
        }
        let mut taken: Vec<u16> = live.values().map(|endpoint| endpoint.id).collect();
        taken.sort_unstable();
        let id = (1..=u16::MAX).find(|id| taken.get(usize::from(*id) - 1) != Some(id));
        let endpoint = Endpoint::new(id.ok_or(EndpointError::TooMany(live.len()))?, wanted);
        self.records.write(&endpoint)?;
        live.insert(key, endpoint.clone());
        Ok(endpoint)
    }

    fn make(
        &self,
        endpoint: &mut Endpoint,
        namespace: BorrowedFd<'_>,
        inside: OwnedFd,
    ) -> Result<(), EndpointError> {
        let mut node = Requests::here()?;
        let mut inside = Requests::over(inside)?;
        endpoint.device.index = link::make_pair(&mut node, endpoint, namespace)?;
        pod::configure(&mut inside, endpoint)?;
        host::configure(&mut node, endpoint)
    }

    /// Takes an unfinished endpoint away as far as that can be done; what is left goes with the next restart, for
    /// which its record stays.
    fn abandon(&self, endpoint: &Endpoint) {
        if let Err(error) = self.remove(&endpoint.container_id, &endpoint.interface) {
            tracing::warn!(%error, endpoint = endpoint.id, "an endpoint that could not be made is not gone yet");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Endpoint>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of(endpoint: &Endpoint) -> Key {
    (endpoint.container_id.clone(), endpoint.interface.clone())
}
