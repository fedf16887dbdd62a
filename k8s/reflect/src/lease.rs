//! One of several processes at a time: a Lease of `coordination.k8s.io/v1`.
//!
//! As client-go does it: whoever holds the Lease renews it; the others take it when it was not renewed for its
//! duration by their own clock (the times in it are for people). Every write names the version it is based on, so of
//! two that write at once one fails.

use std::time::{Duration, Instant};

use http::{Method, Request};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{interval, timeout, timeout_at};

use crate::access::{AccessError, ApiServer};
use crate::body::whole;
use crate::connection::Connection;
use crate::failure::{Cause, Failure};

/// What to do about a server that does not answer in time.
const LOAD: &str = "look at its load";
/// Longest answer about a Lease.
const LEASE: usize = 1 << 20;

/// Which Lease, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who asks; another one for each process.
    pub identity: String,
    /// Others take it after so long without renewal.
    pub duration: Duration,
    /// The holder gives up after so long without renewal; shorter than `duration`.
    pub renew_within: Duration,
    /// How often it is renewed or looked at.
    pub retry: Duration,
}

/// A Lease that is asked for until this is dropped or [`released`](Self::release).
#[derive(Debug)]
pub struct Lease {
    leading: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Lease {
    /// Begins to ask for it, on a task of the current runtime.
    ///
    /// # Errors
    /// The access cannot be used.
    pub async fn start(server: ApiServer, config: LeaseConfig) -> Result<Self, AccessError> {
        let connection = Connection::new(server).await?;
        let (sender, leading) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        let candidate =
            Candidate { config, connection, seen: None, renewed: Instant::now(), leading: sender };
        Ok(Self { leading, stop, task: tokio::spawn(candidate.run(stopped)) })
    }

    /// Whether this process holds it.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// Gives it back, so that another takes it at once, or at the latest after two seconds goes without.
    pub async fn release(mut self) {
        // An error says that the task has ended.
        let _ = self.stop.send(true);
        let _ = timeout(Duration::from_secs(2), &mut self.task).await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Candidate {
    config: LeaseConfig,
    connection: Connection,
    /// The Lease as last seen, and when it was first seen so.
    seen: Option<(Value, Instant)>,
    /// When the last renewal that succeeded was begun.
    renewed: Instant,
    leading: watch::Sender<bool>,
}

impl Candidate {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut every = interval(self.config.retry);
        let mut complained = false;
        loop {
            tokio::select! {
                _ = every.tick() => {}
                _ = stopped.changed() => break,
            }
            let began = Instant::now();
            // Whoever holds it stops when it was not renewed in time, whatever the attempt waits for.
            let holds = *self.leading.borrow();
            let until = (if holds { self.renewed } else { began }) + self.config.renew_within;
            let attempt = timeout_at(until.into(), self.attempt()).await;
            match attempt.unwrap_or_else(|_| Err(Failure::new(Cause::Unreachable, "no answer in time", LOAD)))
            {
                Ok(true) => {
                    self.renewed = began;
                    self.set(true);
                    complained = false;
                }
                Ok(false) => self.set(false),
                Err(failure) => {
                    if !std::mem::replace(&mut complained, true) {
                        let (lease, fix) = (&self.config.name, &failure.fix);
                        tracing::warn!(lease, fix, "cannot be renewed: {}", failure.message);
                    }
                    if failure.asks_for_another_connection() {
                        // The failure was told; the old client stays where there is no other.
                        let current = self.connection.current();
                        let _ = timeout_at(until.into(), self.connection.renew(&current)).await;
                    }
                    if self.renewed.elapsed() >= self.config.renew_within {
                        self.set(false);
                    }
                }
            }
        }
        if self.leading.send_replace(false)
            && let Some((lease, _)) = self.seen.take()
        {
            // Whoever waits for it waits its duration otherwise.
            let _ = self.write(Some(lease), "").await;
        }
    }

    fn set(&self, leading: bool) {
        if self.leading.send_replace(leading) != leading {
            let lease = &self.config.name;
            tracing::info!(lease, leading, "the lease changed hands");
        }
    }

    /// Whether this process holds the Lease now.
    async fn attempt(&mut self) -> Result<bool, Failure> {
        let lease = match self.ask(Method::GET, Some(&self.config.name), None).await {
            Ok(lease) => Some(lease),
            Err(failure) if failure.cause == Cause::Absent => None,
            Err(failure) => return Err(failure),
        };
        if let Some(lease) = &lease {
            let is_same = self.seen.as_ref().is_some_and(|(seen, _)| seen["spec"] == lease["spec"]);
            match (&mut self.seen, is_same) {
                (Some((seen, _)), true) => *seen = lease.clone(),
                (seen, _) => *seen = Some((lease.clone(), Instant::now())),
            }
            let spec = &lease["spec"];
            let holder = spec["holderIdentity"].as_str().unwrap_or_default();
            let duration =
                spec["leaseDurationSeconds"].as_u64().map_or(self.config.duration, Duration::from_secs);
            let is_over = self.seen.as_ref().is_some_and(|(_, since)| since.elapsed() > duration);
            if holder != self.config.identity && !holder.is_empty() && !is_over {
                return Ok(false);
            }
        }
        let identity = self.config.identity.clone();
        match self.write(lease, &identity).await {
            Ok(written) => {
                self.seen = Some((written, Instant::now()));
                Ok(true)
            }
            Err(failure) if failure.cause == Cause::Conflict => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Writes `holder` into the Lease, a new one where there is none.
    async fn write(&self, lease: Option<Value>, holder: &str) -> Result<Value, Failure> {
        let now = format!("{:.6}", Timestamp::now());
        let old = lease.as_ref().map_or(&Value::Null, |lease| &lease["spec"]);
        let is_new_holder = old["holderIdentity"] != holder;
        let transitions = old["leaseTransitions"].as_u64().unwrap_or(0);
        let spec = json!({
            "holderIdentity": holder,
            "leaseDurationSeconds": self.config.duration.as_secs().max(1),
            "acquireTime": if is_new_holder { json!(now) } else { old["acquireTime"].clone() },
            "renewTime": now,
            "leaseTransitions": transitions + u64::from(is_new_holder && lease.is_some()),
        });
        match lease {
            Some(mut lease) => {
                lease["spec"] = spec;
                self.ask(Method::PUT, Some(&self.config.name), Some(lease)).await
            }
            None => {
                let LeaseConfig { namespace, name, .. } = &self.config;
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {"name": name, "namespace": namespace},
                    "spec": spec,
                });
                self.ask(Method::POST, None, Some(lease)).await
            }
        }
    }

    async fn ask(&self, method: Method, name: Option<&str>, body: Option<Value>) -> Result<Value, Failure> {
        let mut path = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.config.namespace);
        if let Some(name) = name {
            path = format!("{path}/{name}");
        }
        let verb = match method.as_str() {
            "POST" => "create",
            "PUT" => "update",
            _ => "get",
        };
        let what = format!("{verb} leases.coordination.k8s.io in {}", self.config.namespace);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(body.map(|body| body.to_string().into_bytes()).unwrap_or_default())
            .map_err(|error| Failure::broken(error.to_string()))?;
        // The next attempt must come before the Lease is over.
        let within = self.config.renew_within / 2;
        let answer = self.connection.current().ask(request, within, &what).await?;
        let body = timeout(within, whole(answer, LEASE))
            .await
            .map_err(|_| Failure::new(Cause::Unreachable, format!("{what}: no answer"), LOAD))??;
        serde_json::from_slice(&body).map_err(|error| Failure::broken(format!("{what}: {error}")))
    }
}
