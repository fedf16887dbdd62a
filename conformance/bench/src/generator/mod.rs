//! Requests at a fixed rate, whatever the answers do.
//!
//! The start of each request is fixed beforehand and its latency counts from there, also when the connection
//! was still busy: a slow proxy cannot slow the load down and hide it (coordinated omission).

mod http1;
mod http2;
mod pacer;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::sync::mpsc;

pub(crate) use self::http1::{Connection, Head, ask};
pub(crate) use self::http2::ask as ask_http2;

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clients {
    /// HTTP/1 connections that stay.
    KeepAlive {
        /// How many.
        connections: usize,
    },
    /// An HTTP/1 connection for each request, closed by the client.
    NewConnection {
        /// Requests under way at most.
        concurrency: usize,
    },
    /// HTTP/2 with prior knowledge.
    Http2 {
        /// How many.
        connections: usize,
        /// Requests under way on each at most.
        streams: usize,
    },
}

/// A request that a route is meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// `host` or `:authority`.
    pub(crate) host: String,
    /// Path with query.
    pub(crate) path: String,
    /// Further headers.
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Default for Request {
    fn default() -> Self {
        Self { host: "bench.example".to_owned(), path: "/kilobyte".to_owned(), headers: Vec::new() }
    }
}

/// A load on one address.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) target: SocketAddr,
    pub(crate) clients: Clients,
    /// Sent in turn.
    pub(crate) requests: Vec<Request>,
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) duration: Duration,
}

/// What came of a load.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Requests answered with the right status and body.
    pub(crate) completed: u64,
    /// Everything else, by what went wrong.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Nanoseconds from the intended start to the last byte.
    pub(crate) latency: Histogram<u64>,
}

impl Outcome {
    /// Milliseconds below which this share of the requests stayed.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        self.latency.value_at_quantile(share) as f64 / 1e6
    }

    pub(crate) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// One request to be made.
#[derive(Clone, Copy, Debug)]
struct Turn {
    intended: Instant,
    /// Its place among the load's requests.
    request: usize,
}

/// What all connections of a load write to.
struct Tally {
    completed: u64,
    errors: BTreeMap<String, u64>,
    latency: Histogram<u64>,
}

impl Tally {
    fn answered(&mut self, turn: Turn, answer: Result<(), String>) {
        match answer {
            Ok(()) => {
                self.completed += 1;
                let nanoseconds = u64::try_from(turn.intended.elapsed().as_nanos()).unwrap_or(u64::MAX);
                self.latency.saturating_record(nanoseconds);
            }
            Err(error) => *self.errors.entry(error).or_default() += 1,
        }
    }
}

type Shared = Rc<RefCell<Tally>>;
type Turns = mpsc::UnboundedReceiver<Turn>;

/// After the last request was due, answers are waited for that long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes the load and waits for the answers. Must run on a `LocalSet`.
///
/// # Errors
/// There is no clock, or the connections cannot be made.
pub(crate) async fn run(load: &Load) -> anyhow::Result<Outcome> {
    let latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 3).context("no histogram")?;
    let tally: Shared = Rc::new(RefCell::new(Tally { completed: 0, errors: BTreeMap::new(), latency }));
    let requests: Rc<[Request]> = load.requests.as_slice().into();
    let mut connections = Vec::new();
    let mut turns = Vec::new();
    let mut lane = || {
        let (sender, receiver) = mpsc::unbounded_channel();
        turns.push(sender);
        receiver
    };
    match load.clients {
        Clients::KeepAlive { connections: count } => {
            let heads: Rc<[Vec<u8>]> = requests.iter().map(|request| http1::encode(request, true)).collect();
            for _ in 0..count {
                let work = http1::keep_alive(load.target, heads.clone(), lane(), tally.clone());
                connections.push(tokio::task::spawn_local(work));
            }
        }
        Clients::NewConnection { concurrency } => {
            let heads: Rc<[Vec<u8>]> = requests.iter().map(|request| http1::encode(request, false)).collect();
            for _ in 0..concurrency {
                let work = http1::new_connections(load.target, heads.clone(), lane(), tally.clone());
                connections.push(tokio::task::spawn_local(work));
            }
        }
        Clients::Http2 { connections: count, streams } => {
            for _ in 0..count {
                let lanes = (0..streams).map(|_| lane()).collect();
                let work = http2::connection(load.target, requests.clone(), lanes, tally.clone());
                connections.push(tokio::task::spawn_local(work));
            }
        }
    }
    pacer::run(load.rate, load.duration, requests.len(), &mut turns).await?;
    drop(turns);
    let all = async {
        for connection in &mut connections {
            // A task that failed has said so in the tally.
            let _ = connection.await;
        }
    };
    let answered = tokio::time::timeout(PATIENCE, all).await;
    connections.iter().for_each(tokio::task::JoinHandle::abort);
    let mut tally = tally.borrow_mut();
    if answered.is_err() {
        *tally.errors.entry("some requests were not answered in time".to_owned()).or_default() += 1;
    }
    Ok(Outcome {
        completed: tally.completed,
        errors: std::mem::take(&mut tally.errors),
        latency: tally.latency.clone(),
    })
}
