//! What all requests of one downstream connection share.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;
use mesh_l7proxy_config::http_manager::{HttpManager, RouteSource};
use mesh_l7proxy_config::listener::{Listener, Network};
use mesh_l7proxy_config::route::RouteTable;
use tokio::sync::Notify;

use crate::body::Unread;
use crate::clock::Clock;
use crate::core::{Core, CoreSnapshot, Held};
use crate::metrics::{HttpCounters, PerThread};

/// One downstream connection, from the moment its filter chain is known.
pub(crate) struct Connection {
    pub(crate) core: Rc<Core>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) manager: Arc<HttpManager>,
    pub(crate) http: HttpStats,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) opened: Instant,
    /// Requests under way.
    pub(crate) active: Cell<u32>,
    /// Requests begun.
    pub(crate) served: Cell<u32>,
    /// When the last request ended, or the connection began. Set by the request's record.
    pub(crate) idle_since: Cell<Instant>,
    /// Set once: finish what is under way, then close.
    closing: Cell<bool>,
    pub(crate) wake: Notify,
    /// Responses that the client has not taken whole.
    pub(crate) unread: Unread,
    /// The peer's address as headers have it.
    peer_text: OnceCell<HeaderValue>,
    /// For the request that waits, if there is one.
    pub(crate) clock: RefCell<Clock>,
    /// The newest configuration that this connection has looked at.
    seen_revision: Cell<u64>,
    #[expect(dead_code, reason = "held for what its drop does")]
    held: Held,
}

/// The counters of one statistics prefix on this thread.
pub(crate) struct HttpStats {
    all: Arc<PerThread<HttpCounters>>,
    thread: usize,
}

impl HttpStats {
    pub(crate) fn new(all: Arc<PerThread<HttpCounters>>, thread: usize) -> Self {
        Self { all, thread }
    }
}

impl std::ops::Deref for HttpStats {
    type Target = HttpCounters;

    fn deref(&self) -> &HttpCounters {
        self.all.of(self.thread)
    }
}

/// What is known about a connection once its bytes were looked at.
pub(crate) struct Established {
    pub(crate) listener: Arc<Listener>,
    pub(crate) manager: Arc<HttpManager>,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) held: Held,
}

impl Connection {
    pub(crate) fn new(core: &Rc<Core>, established: Established) -> Rc<Self> {
        let Established { listener, manager, peer, local, tls, server_name, held } = established;
        let http = core.http(&manager.stat_prefix);
        http.connections_opened.add(1);
        if tls {
            http.tls_connections.add(1);
        }
        let now = Instant::now();
        Rc::new(Self {
            seen_revision: Cell::new(core.snapshot().revision()),
            core: core.clone(),
            listener,
            manager,
            http,
            peer,
            local,
            tls,
            server_name,
            opened: now,
            active: Cell::new(0),
            served: Cell::new(0),
            idle_since: Cell::new(now),
            closing: Cell::new(false),
            wake: Notify::new(),
            unread: Unread::default(),
            peer_text: OnceCell::new(),
            clock: RefCell::default(),
            held,
        })
    }

    /// The routes for one request, from the configuration that holds when it begins.
    pub(crate) fn routes<'s>(&'s self, snapshot: &'s CoreSnapshot) -> Option<&'s Arc<RouteTable>> {
        let named = |source: &'s RouteSource| match source {
            RouteSource::Inline(table) => Some(table),
            RouteSource::Named(name) => snapshot.routes(name),
        };
        named(&self.manager.routes).or_else(|| {
            // The listener has changed and goes by another table now. Whoever was connected before gets what
            // it would get from a new connection.
            let listener = snapshot.listener(&self.listener.name)?;
            match &listener.chain(self.tls, self.server_name.as_deref())?.network {
                Network::Http(manager) => named(&manager.routes),
                Network::Respond(_) => None,
            }
        })
    }

    /// Closes the connection after the present requests if its listener has changed or gone: the settings
    /// that it was accepted under no longer hold. Routes, clusters and endpoints change without this.
    pub(crate) fn follow(&self, snapshot: &CoreSnapshot) {
        if self.seen_revision.replace(snapshot.revision()) == snapshot.revision() {
            return;
        }
        let same_manager = |listener: &Arc<Listener>| {
            Arc::ptr_eq(listener, &self.listener)
                || listener.all_chains().any(|chain| {
                    matches!(&chain.network, Network::Http(manager) if Arc::ptr_eq(manager, &self.manager))
                })
        };
        if !snapshot.listener(&self.listener.name).is_some_and(same_manager) {
            self.close_after_requests();
        }
    }

    /// The peer's address, without its port, as the value of a header. Made once.
    pub(crate) fn peer_text(&self) -> HeaderValue {
        self.peer_text.get_or_init(|| crate::forwarded::text(self.peer.ip())).clone()
    }

    pub(crate) fn close_after_requests(&self) {
        if !self.closing.replace(true) {
            self.wake.notify_one();
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.http.connections_closed.add(1);
    }
}

/// Counts a request as under way until dropped.
pub(crate) struct Active(Rc<Connection>);

impl Active {
    pub(crate) fn new(connection: &Rc<Connection>) -> Self {
        connection.active.set(connection.active.get() + 1);
        connection.served.set(connection.served.get().saturating_add(1));
        Self(connection.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        if self.0.is_closing() {
            self.0.wake.notify_one();
        }
    }
}
