//! Counters. Each data thread writes its own, nobody locks; they are added up when somebody looks.

mod render;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, amount: u64) {
        // Not an atomic addition: only one thread writes, the others may read a moment late.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper limits of the duration buckets in milliseconds, Envoy's.
pub(crate) const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10000.0,
    30000.0,
    60000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Durations by bucket.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    buckets: [Count; BUCKETS.len() + 1],
    nanoseconds: Count,
}

impl Durations {
    pub(crate) fn add(&self, duration: Duration) {
        let milliseconds = duration.as_secs_f64() * 1000.0;
        let bucket = BUCKETS.iter().position(|limit| milliseconds <= *limit).unwrap_or(BUCKETS.len());
        self.buckets[bucket].add(1);
        self.nanoseconds.add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// Counters of one statistics prefix on one thread. Actives are the differences of pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct HttpCounters {
    pub(crate) connections_opened: Count,
    pub(crate) connections_closed: Count,
    pub(crate) tls_connections: Count,
    pub(crate) tls_failures: Count,
    pub(crate) requests: Count,
    pub(crate) requests_done: Count,
    pub(crate) status: [Count; 5],
    pub(crate) bytes_received: Count,
    pub(crate) bytes_sent: Count,
    pub(crate) protocol_errors: Count,
    pub(crate) downstream_resets: Count,
    pub(crate) idle_timeouts: Count,
    pub(crate) header_timeouts: Count,
    pub(crate) durations: Durations,
}

/// Counters of one cluster on one thread.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ClusterCounters {
    pub(crate) connections_opened: Count,
    pub(crate) connections_closed: Count,
    pub(crate) connect_failures: Count,
    pub(crate) connect_timeouts: Count,
    pub(crate) connection_overflow: Count,
    pub(crate) requests: Count,
    pub(crate) requests_done: Count,
    pub(crate) request_overflow: Count,
    pub(crate) none_healthy: Count,
    pub(crate) retries: Count,
    pub(crate) timeouts: Count,
    pub(crate) resets: Count,
    pub(crate) status: [Count; 5],
    pub(crate) bytes_received: Count,
    pub(crate) bytes_sent: Count,
    pub(crate) durations: Durations,
}

/// Counters of the process as such on one thread.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ThreadCounters {
    pub(crate) connections_opened: Count,
    pub(crate) connections_closed: Count,
    pub(crate) accept_errors: Count,
    pub(crate) unknown_destination: Count,
    pub(crate) no_filter_chain: Count,
    pub(crate) no_certificate: Count,
    pub(crate) proxy_protocol_errors: Count,
    pub(crate) log_lines_dropped: Count,
}

/// One name's counters on all threads.
#[derive(Debug)]
pub(crate) struct PerThread<C>(Vec<C>);

impl<C: Default> PerThread<C> {
    fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| C::default()).collect())
    }
}

impl<C> PerThread<C> {
    pub(crate) fn of(&self, thread: usize) -> &C {
        &self.0[thread]
    }

    pub(crate) fn sum(&self, pick: impl Fn(&C) -> &Count) -> u64 {
        self.0.iter().map(|counters| pick(counters).get()).sum()
    }
}

/// A cluster's counters, and its load over all threads, which circuit breakers look at.
#[derive(Debug)]
pub(crate) struct ClusterStats {
    pub(crate) counters: PerThread<ClusterCounters>,
    pub(crate) connections: AtomicU32,
    pub(crate) requests: AtomicU32,
    pub(crate) retries: AtomicU32,
}

/// All counters of a data plane. The maps are locked when a thread meets a name for the first time and when
/// somebody looks, never for a request.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) threads: PerThread<ThreadCounters>,
    pub(crate) thread_count: usize,
    http: Mutex<BTreeMap<Arc<str>, Arc<PerThread<HttpCounters>>>>,
    clusters: Mutex<BTreeMap<Arc<str>, Arc<ClusterStats>>>,
}

impl Registry {
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads: PerThread::new(threads),
            thread_count: threads,
            http: Mutex::default(),
            clusters: Mutex::default(),
        }
    }

    pub(crate) fn http(&self, prefix: &Arc<str>) -> Arc<PerThread<HttpCounters>> {
        let mut http = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        http.entry(prefix.clone()).or_insert_with(|| Arc::new(PerThread::new(self.thread_count))).clone()
    }

    pub(crate) fn cluster(&self, name: &Arc<str>) -> Arc<ClusterStats> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            Arc::new(ClusterStats {
                counters: PerThread::new(self.thread_count),
                connections: AtomicU32::new(0),
                requests: AtomicU32::new(0),
                retries: AtomicU32::new(0),
            })
        };
        clusters.entry(name.clone()).or_insert_with(make).clone()
    }

    /// Forgets clusters that no longer exist, once no thread uses them any more.
    pub(crate) fn retain_clusters(&self, exists: impl Fn(&str) -> bool) {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.retain(|name, stats| exists(name) || Arc::strong_count(stats) > 1);
    }

    /// The same for the prefixes that HTTP is counted under, of which connections hold what they count with.
    pub(crate) fn retain_http(&self, exist: &HashSet<&str>) {
        let mut http = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        http.retain(|prefix, counters| exist.contains(&**prefix) || Arc::strong_count(counters) > 1);
    }

    pub(crate) fn all_clusters(&self) -> Vec<(Arc<str>, Arc<ClusterStats>)> {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.iter().map(|(name, stats)| (name.clone(), stats.clone())).collect()
    }

    pub(crate) fn all_http(&self) -> Vec<(Arc<str>, Arc<PerThread<HttpCounters>>)> {
        let http = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        http.iter().map(|(name, counters)| (name.clone(), counters.clone())).collect()
    }
}

/// The position of a status among the five classes.
pub(crate) fn class(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, 5) - 1
}
