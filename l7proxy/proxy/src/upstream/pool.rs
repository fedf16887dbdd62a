//! Connections to one endpoint that wait for a request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::Response;
use mesh_l7proxy_config::cluster::ClusterSettings;
use tokio::sync::Notify;

use super::connect::connect;
use super::{CoreCluster, PoolKey};
use crate::body::RequestBody;
use crate::codec::{
    Http2Sender, Incoming, Protocol, RequestHead, SendError, Sender, handshake_http1, handshake_http2,
};
use crate::core::Core;
use crate::failure::Failure;

/// Idle connections to one endpoint on one thread. More would only be needed after a burst.
const MOST_IDLE: usize = 256;

#[derive(Default)]
pub(crate) struct Pool {
    /// The newest last.
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Shared>>,
    /// Whether somebody opens a shared connection now; the others wait for it.
    opening: Cell<bool>,
    opened: Notify,
    /// How the last attempt to open a shared connection went.
    failed: Cell<Option<Failure>>,
}

struct Idle {
    sender: Sender,
    since: Instant,
    served: u32,
}

struct Shared {
    sender: Http2Sender,
    served: Cell<u32>,
    since: Cell<Instant>,
}

/// A connection that belongs to one request.
pub(crate) struct Lease {
    sender: Sender,
    pool: Rc<Pool>,
    served: u32,
    /// Requests that it may serve in all.
    most: u32,
    /// Whether it carried a request before: then it may turn out to be closed by the other side.
    pub(crate) reused: bool,
}

impl Lease {
    /// See [`Sender::exchange`].
    pub(crate) async fn exchange(
        &mut self,
        head: RequestHead<'_>,
        body: RequestBody,
    ) -> Result<Response<Incoming>, SendError> {
        self.sender.exchange(head, body).await
    }

    /// Puts the connection back once the response was read to its end. One on which the request is still
    /// being sent goes back as well; it is passed over until it is ready.
    pub(crate) fn finish(self) {
        if !matches!(self.sender, Sender::Http1(_)) || self.served >= self.most {
            return;
        }
        if !self.sender.is_closed() {
            let mut idle = self.pool.idle.borrow_mut();
            if idle.len() < MOST_IDLE {
                idle.push(Idle { sender: self.sender, since: Instant::now(), served: self.served });
            }
        }
    }
}

impl Pool {
    pub(super) async fn lease(
        self: &Rc<Self>,
        cluster: &Rc<CoreCluster>,
        core: &Core,
        settings: &ClusterSettings,
        key: PoolKey,
        fresh: bool,
    ) -> Result<Lease, Failure> {
        let most = settings.max_requests_per_connection.unwrap_or(u32::MAX);
        let lease = |sender, served, reused| Lease { sender, pool: self.clone(), served, most, reused };
        match key.protocol {
            Protocol::Http1 => {
                if !fresh && let Some(idle) = self.take_idle() {
                    return Ok(lease(idle.sender, idle.served + 1, true));
                }
                let (stream, guard) = connect(cluster, core, settings, key).await?;
                let sender = handshake_http1(stream, guard);
                Ok(lease(sender, 1, false))
            }
            Protocol::Http2 => {
                let mut fresh = fresh;
                loop {
                    if !std::mem::take(&mut fresh)
                        && let Some((sender, reused)) = self.shared_stream(most)
                    {
                        return Ok(lease(sender, 1, reused));
                    }
                    if self.opening.get() {
                        self.opened.notified().await;
                        if let Some(failure) = self.failed.get() {
                            return Err(failure);
                        }
                        continue;
                    }
                    // Reset when this future is dropped as well, so that the waiting are not left behind.
                    let opening = Opening::new(self);
                    let (stream, guard) =
                        connect(cluster, core, settings, key).await.inspect_err(|failure| {
                            self.failed.set(Some(*failure));
                        })?;
                    let sender = handshake_http2(stream, guard).await.ok_or(Failure::ConnectFailed)?;
                    let stream = sender.stream();
                    let now = Instant::now();
                    self.shared.borrow_mut().push(Shared {
                        sender,
                        served: Cell::new(1),
                        since: Cell::new(now),
                    });
                    drop(opening);
                    if let Some(stream) = stream {
                        return Ok(lease(stream, 1, false));
                    }
                }
            }
        }
    }

    /// The newest that can be used. Looks at no more of them than it must: each is a cache line or two. The
    /// sweep takes out those that end while nobody looks.
    fn take_idle(&self) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        let mut place = idle.len();
        while place > 0 {
            place -= 1;
            if idle[place].sender.is_ready() {
                return Some(idle.remove(place));
            }
            if idle[place].sender.is_closed() {
                idle.remove(place);
            }
        }
        None
    }

    fn shared_stream(&self, most: u32) -> Option<(Sender, bool)> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|shared| !shared.sender.is_closed());
        shared.iter().filter(|shared| shared.served.get() < most).find_map(|shared| {
            let stream = shared.sender.stream()?;
            shared.served.set(shared.served.get() + 1);
            shared.since.set(Instant::now());
            Some((stream, true))
        })
    }

    pub(super) fn sweep(&self, idle_timeout: Option<Duration>) {
        let young = |since: Instant| idle_timeout.is_none_or(|limit| since.elapsed() < limit);
        // Asking whether it is ready is what notices that the other side has closed it.
        let usable = |sender: &Sender| sender.is_ready() || !sender.is_closed();
        self.idle.borrow_mut().retain(|idle| usable(&idle.sender) && young(idle.since));
        self.shared.borrow_mut().retain(|shared| {
            !shared.sender.is_closed() && (!shared.sender.is_unused() || young(shared.since.get()))
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty() && self.shared.borrow().is_empty()
    }
}

struct Opening<'p>(&'p Pool);

impl<'p> Opening<'p> {
    fn new(pool: &'p Pool) -> Self {
        pool.opening.set(true);
        pool.failed.set(None);
        Self(pool)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.opened.notify_waiters();
    }
}
