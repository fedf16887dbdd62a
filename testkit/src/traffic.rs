//! Traffic that goes on while something else happens, and is counted.
//!
//! It knows nothing of the product: it opens connections, asks, and compares every answer with what it asked
//! for. One thread for each [`Traffic`], in the namespace of the client; one task for each connection.

mod exchange;
mod load;
mod tally;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::watch;

use crate::namespace::Namespace;

pub use self::tally::Tally;

/// What is asked, and of whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where to connect.
    pub to: SocketAddr,
    /// `Host`.
    pub host: String,
    /// A header that the backend must have seen: that the proxy was passed and applied its route.
    pub mark: Option<&'static str>,
}

/// One kind of traffic.
#[derive(Clone, Debug)]
pub enum Load {
    /// A new HTTP/1.1 connection for each request, one after the other.
    Fresh {
        /// Whom.
        target: Target,
        /// From one request to the next.
        every: Duration,
    },
    /// HTTP/1.1 connections that are kept as long as the server lets.
    Kept {
        /// Whom.
        target: Target,
        /// How many.
        connections: usize,
        /// From one request of a connection to the next.
        every: Duration,
    },
    /// HTTP/2 connections (by prior knowledge) that are kept as long as the server lets.
    Http2 {
        /// Whom.
        target: Target,
        /// How many.
        connections: usize,
        /// From one request of a connection to the next.
        every: Duration,
    },
    /// Downloads, one after the other, each on a connection of its own.
    Download {
        /// Whom.
        target: Target,
        /// Length of the body.
        bytes: u64,
        /// How long the backend takes to send it.
        over: Duration,
    },
    /// A plain TCP connection on which numbers go to and fro.
    Flow {
        /// Where to connect.
        to: SocketAddr,
        /// From one number to the next.
        every: Duration,
    },
}

impl Load {
    /// Its name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fresh { .. } => "fresh",
            Self::Kept { .. } => "kept",
            Self::Http2 { .. } => "http2",
            Self::Download { .. } => "download",
            Self::Flow { .. } => "flow",
        }
    }
}

/// Tallies by load, in the order given. Loads of one kind are told apart by their place.
#[derive(Clone, Debug)]
pub struct Report {
    /// Name of the load, and its tally.
    pub loads: Vec<(String, Tally)>,
}

impl Report {
    /// The first load of a name.
    pub fn load(&self, name: &str) -> Option<&Tally> {
        self.loads.iter().find(|(other, _)| other == name).map(|(_, tally)| tally)
    }

    /// The loads of several reports in one; names begin with the one given for each.
    pub fn join(reports: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        let loads = reports.into_iter().flat_map(|(place, report)| {
            report.loads.into_iter().map(move |(name, tally)| (format!("{place} {name}"), tally))
        });
        Self { loads: loads.collect() }
    }

    /// A sum over all loads.
    pub fn sum(&self, of: impl Fn(&Tally) -> u64) -> u64 {
        self.loads.iter().map(|(_, tally)| of(tally)).sum()
    }

    /// The longest gap of any load but downloads, whose answers are far apart by nature.
    pub fn longest_gap(&self) -> Duration {
        let steady = self.loads.iter().filter(|(name, _)| !name.ends_with("download"));
        steady.map(|(_, tally)| tally.longest_gap).max().unwrap_or_default()
    }

    /// The first troubles of all loads, in words.
    pub fn troubles(&self) -> String {
        let told = self
            .loads
            .iter()
            .flat_map(|(name, tally)| tally.troubles.iter().map(move |trouble| format!("{name}: {trouble}")));
        told.collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, tally) in &self.loads {
            writeln!(f, "  {name:<17} {tally}")?;
        }
        Ok(())
    }
}

type Shared = Arc<Mutex<Tally>>;

/// Running traffic; ends when dropped.
#[derive(Debug)]
pub struct Traffic {
    tallies: Vec<(&'static str, Shared)>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Traffic {
    /// Begins, out of a namespace or, without one, from here.
    pub fn start(from: Option<&Namespace>, loads: Vec<Load>) -> anyhow::Result<Self> {
        let (stop, stopping) = watch::channel(false);
        let tallies: Vec<(&'static str, Shared)> =
            loads.iter().map(|load| (load.name(), Shared::default())).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared: Vec<Shared> = tallies.iter().map(|(_, tally)| tally.clone()).collect();
        let work = move || {
            // Sockets belong to the namespace of the thread that makes them, which is this one.
            runtime.block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                for (load, tally) in loads.into_iter().zip(shared) {
                    lock(&tally).begin();
                    load::start(load, &tally, &stopping, &mut tasks);
                }
                while tasks.join_next().await.is_some() {}
            });
        };
        let thread = match from {
            Some(namespace) => namespace.spawn("traffic", work)?,
            None => std::thread::Builder::new().name("traffic".to_owned()).spawn(move || {
                work();
                Ok(())
            })?,
        };
        Ok(Self { tallies, stop, thread: Some(thread) })
    }

    /// How it does so far.
    pub fn report(&self) -> Report {
        self.report_at(Instant::now())
    }

    /// Begins no more, waits for what is under way, and reports.
    pub fn finish(mut self) -> anyhow::Result<Report> {
        // The time that what is under way takes is no gap of the others.
        let stopped = Instant::now();
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            thread.join().ok().context("the traffic's thread panicked")??;
        }
        Ok(self.report_at(stopped))
    }

    fn report_at(&self, at: Instant) -> Report {
        let snapshot = |tally: &Shared| {
            let mut tally = lock(tally).clone();
            tally.close_gap(at);
            tally
        };
        Report {
            loads: self.tallies.iter().map(|(name, tally)| ((*name).to_owned(), snapshot(tally))).collect(),
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

fn lock(tally: &Shared) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
