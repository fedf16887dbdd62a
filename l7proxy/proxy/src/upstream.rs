//! One thread's side of clusters: turns, pools and connections.
//!
//! A connection is kept for later when the last byte of a response was read, and taken by whoever needs
//! one next, newest first. HTTP/2 connections are shared while they are in use.

mod connect;
mod pool;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foldhash::fast::RandomState;
use mesh_l7proxy_config::cluster::{ClusterSettings, Endpoint, Endpoints, Limits};

pub(crate) use self::pool::Lease;
use self::pool::Pool;
use crate::codec::Protocol;
use crate::core::Core;
use crate::failure::Failure;
use crate::metrics::{ClusterCounters, ClusterStats};

/// A cluster as one thread uses it.
pub(crate) struct CoreCluster {
    pub(crate) name: Arc<str>,
    thread: usize,
    pub(crate) stats: Arc<ClusterStats>,
    /// Whose turn it is.
    pub(crate) turn: Cell<u32>,
    pools: RefCell<HashMap<PoolKey, Rc<Pool>, RandomState>>,
    /// The endpoints that the pools were last held against.
    known: RefCell<Option<Arc<Endpoints>>>,
}

/// What connections must agree in to stand in for each other. Compared whole, not by its hash. The client's
/// port is no part of it: keyed by port, no connection would ever be used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) endpoint: SocketAddr,
    pub(crate) protocol: Protocol,
    /// The client's address, where it is kept.
    pub(crate) source: Option<IpAddr>,
}

impl CoreCluster {
    pub(crate) fn new(name: &Arc<str>, thread: usize, stats: Arc<ClusterStats>) -> Rc<Self> {
        Rc::new(Self {
            name: name.clone(),
            thread,
            stats,
            turn: Cell::new(mesh_l7proxy_config::random::bits() as u32),
            pools: RefCell::default(),
            known: RefCell::default(),
        })
    }

    pub(crate) fn counters(&self) -> &ClusterCounters {
        self.stats.counters.of(self.thread)
    }

    /// A connection for one request: from the pool unless `fresh`, else a new one.
    pub(crate) async fn lease(
        self: &Rc<Self>,
        core: &Core,
        settings: &ClusterSettings,
        key: PoolKey,
        fresh: bool,
    ) -> Result<Lease, Failure> {
        // The borrow ends with the statement: nothing below holds it over an await.
        let pool = self.pools.borrow_mut().entry(key).or_default().clone();
        pool.lease(self, core, settings, key, fresh).await
    }

    /// Drops idle connections to endpoints that are gone. Costs nothing while they are the same.
    pub(crate) fn keep_endpoints(&self, endpoints: &Arc<Endpoints>) {
        let before = self.known.borrow_mut().replace(endpoints.clone());
        if before.is_some_and(|before| Arc::ptr_eq(&before, endpoints)) {
            return;
        }
        let known: HashSet<SocketAddr> = endpoints.all().iter().map(|endpoint| endpoint.address).collect();
        self.pools.borrow_mut().retain(|key, _| known.contains(&key.endpoint));
    }

    /// Drops connections that were idle for longer than allowed, and empty pools.
    pub(crate) fn sweep(&self, idle_timeout: Option<Duration>) {
        self.pools.borrow_mut().retain(|_, pool| {
            pool.sweep(idle_timeout);
            !pool.is_empty() || Rc::strong_count(pool) > 1
        });
    }

    /// Takes a place among the requests under way.
    pub(crate) fn admit(
        self: &Rc<Self>,
        limits: Limits,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Admitted, Failure> {
        let before = self.stats.requests.fetch_add(1, Ordering::Relaxed);
        endpoint.active.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted { cluster: self.clone(), endpoint: endpoint.clone() };
        if before >= limits.requests {
            self.counters().request_overflow.add(1);
            return Err(Failure::Overflow);
        }
        Ok(admitted)
    }
}

/// A request under way to an endpoint; counted until dropped.
pub(crate) struct Admitted {
    cluster: Rc<CoreCluster>,
    endpoint: Arc<Endpoint>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.cluster.stats.requests.fetch_sub(1, Ordering::Relaxed);
        self.endpoint.active.fetch_sub(1, Ordering::Relaxed);
    }
}
