//! How two proxies are compared: in blocks, each beside the other and in both orders.
//!
//! A block is `direct, A, B, ..., B, A, direct`: a machine that becomes slower or faster meanwhile does so to
//! all alike. A ratio is made within a block and the median is taken over blocks. nginx, whose code does not
//! change, is in each block: where its two runs differ, the machine was not quiet, and the block is dropped.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::accounting::{Machine, Usage};
use crate::backend;
use crate::generator::{self, Clients, Head, Load, Request};
use crate::peers::Running;
use crate::statistics::{Estimate, estimate, median};

/// The control peer's two runs may differ by that much.
const DRIFT: f64 = 0.03;
/// The host may take away that share of a block.
const STOLEN: f64 = 0.01;
/// Before each measurement, until connections are made and caches are warm.
const WARM_UP: Duration = Duration::from_millis(400);
/// Microseconds in one of /proc's clock ticks, which is 100 Hz for user space on every Linux.
const TICK_US: f64 = 10_000.0;

/// One contestant.
pub(crate) struct Leg<'a> {
    pub(crate) name: String,
    pub(crate) target: SocketAddr,
    /// None: the backend itself.
    pub(crate) proxy: Option<&'a Running>,
    pub(crate) requests: Vec<Request>,
}

/// What is done to each of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) clients: Clients,
    pub(crate) rate: f64,
    pub(crate) duration: Duration,
    /// Blocks to keep.
    pub(crate) blocks: usize,
}

/// One run of one contestant.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Microseconds of the proxy a request; of nobody for the backend itself.
    cpu: f64,
    user: f64,
    system: f64,
    /// Of the whole machine.
    machine: f64,
    sleeps: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Run {
    fn mean(self, other: Self) -> Self {
        Self {
            cpu: f64::midpoint(self.cpu, other.cpu),
            user: f64::midpoint(self.user, other.user),
            system: f64::midpoint(self.system, other.system),
            machine: f64::midpoint(self.machine, other.machine),
            sleeps: f64::midpoint(self.sleeps, other.sleeps),
            p50_ms: f64::midpoint(self.p50_ms, other.p50_ms),
            p99_ms: f64::midpoint(self.p99_ms, other.p99_ms),
        }
    }
}

/// What came out for one contestant.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Standing {
    pub(crate) name: String,
    /// Microseconds of CPU a request.
    pub(crate) cpu_us: Option<Estimate>,
    /// Of them in user mode, by the kernel's sampling.
    pub(crate) user_us: f64,
    /// In the kernel.
    pub(crate) system_us: f64,
    /// Of the whole machine, less what the run without a proxy took.
    pub(crate) machine_over_direct_us: f64,
    /// Times a request that the proxy went to sleep.
    pub(crate) sleeps: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// The first contestant's CPU over this one's.
    pub(crate) ratio: Option<Estimate>,
    /// What its answers carry besides the backend's headers.
    pub(crate) added_headers: Vec<String>,
}

/// What came out of all blocks.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
    pub(crate) kept: usize,
    pub(crate) dropped: usize,
    /// Of the kept blocks, the most that the host took away.
    pub(crate) stolen_percent: f64,
    pub(crate) standings: Vec<Standing>,
}

impl Series {
    /// The contestant of that name.
    pub(crate) fn of(&self, name: &str) -> Option<&Standing> {
        self.standings.iter().find(|standing| standing.name == name)
    }
}

/// Compares the contestants. The first but the backend itself is the one that ratios are of.
///
/// # Errors
/// A contestant answers wrongly, or the machine was never quiet.
pub(crate) fn compare(runtime: &Runtime, legs: &[Leg<'_>], plan: Plan) -> anyhow::Result<Series> {
    let http2 = matches!(plan.clients, Clients::Http2 { .. });
    let mut added = Vec::new();
    for leg in legs {
        let headers = check(runtime, leg, http2).with_context(|| format!("{} answers wrongly", leg.name))?;
        added.push(headers);
    }
    let mut blocks: Vec<Vec<Run>> = Vec::new();
    let (mut dropped, mut stolen_most) = (0, 0.0_f64);
    while blocks.len() < plan.blocks && blocks.len() + dropped < plan.blocks * 2 {
        let machine = Machine::now()?;
        let there: Vec<Run> =
            legs.iter().map(|leg| once(runtime, leg, plan)).collect::<anyhow::Result<_>>()?;
        let mut back: Vec<Run> =
            legs.iter().rev().map(|leg| once(runtime, leg, plan)).collect::<anyhow::Result<_>>()?;
        back.reverse();
        let stolen = Machine::now()?.since(machine).stolen_share();
        let drift = control_drift(legs, &there, &back);
        let means: Vec<Run> = there.into_iter().zip(back).map(|(first, second)| first.mean(second)).collect();
        let costs: Vec<String> =
            legs.iter().zip(&means).map(|(leg, run)| format!("{} {:.1}", leg.name, run.cpu)).collect();
        let verdict = if drift > DRIFT || stolen > STOLEN { "dropped" } else { "kept" };
        eprintln!(
            "  block {verdict}: drift {:.1} %, stolen {:.2} %, us a request: {}",
            drift * 100.0,
            stolen * 100.0,
            costs.join(", ")
        );
        if verdict == "dropped" {
            dropped += 1;
            continue;
        }
        stolen_most = stolen_most.max(stolen);
        blocks.push(means);
    }
    ensure!(!blocks.is_empty(), "all {dropped} blocks were dropped: the machine is not quiet");
    Ok(Series {
        rate: plan.rate,
        seconds: plan.duration.as_secs_f64(),
        kept: blocks.len(),
        dropped,
        stolen_percent: stolen_most * 100.0,
        standings: standings(legs, &blocks, added),
    })
}

fn standings(legs: &[Leg<'_>], blocks: &[Vec<Run>], added: Vec<Vec<String>>) -> Vec<Standing> {
    let first = legs.iter().position(|leg| leg.proxy.is_some());
    let direct = legs.iter().position(|leg| leg.proxy.is_none());
    let legs = legs.iter().enumerate().zip(added);
    legs.map(|((index, leg), added_headers)| {
        let values =
            |pick: fn(&Run) -> f64| blocks.iter().map(|block| pick(&block[index])).collect::<Vec<_>>();
        let middle = |pick: fn(&Run) -> f64| median(&values(pick)).unwrap_or_default();
        let over_direct: Vec<f64> = blocks
            .iter()
            .map(|block| block[index].machine - direct.map_or(0.0, |direct| block[direct].machine))
            .collect();
        let ratios = first.map(|first| {
            blocks.iter().map(|block| block[first].cpu / block[index].cpu).collect::<Vec<f64>>()
        });
        let is_proxy = leg.proxy.is_some();
        Standing {
            name: leg.name.clone(),
            cpu_us: estimate(&values(|run| run.cpu)).filter(|_| is_proxy),
            user_us: middle(|run| run.user),
            system_us: middle(|run| run.system),
            machine_over_direct_us: median(&over_direct).unwrap_or_default(),
            sleeps: middle(|run| run.sleeps),
            p50_ms: middle(|run| run.p50_ms),
            p99_ms: middle(|run| run.p99_ms),
            ratio: ratios.filter(|_| is_proxy && Some(index) != first).and_then(|ratios| estimate(&ratios)),
            added_headers,
        }
    })
    .collect()
}

/// How much the control peer's runs differ.
fn control_drift(legs: &[Leg<'_>], there: &[Run], back: &[Run]) -> f64 {
    let control = legs.iter().position(|leg| leg.name == "nginx");
    control.map_or(0.0, |control| {
        let (first, second) = (there[control].cpu, back[control].cpu);
        (first - second).abs() / f64::midpoint(first, second)
    })
}

fn once(runtime: &Runtime, leg: &Leg<'_>, plan: Plan) -> anyhow::Result<Run> {
    let load = |duration| Load {
        target: leg.target,
        clients: plan.clients,
        requests: leg.requests.clone(),
        rate: plan.rate,
        duration,
    };
    LocalSet::new().block_on(runtime, generator::run(&load(WARM_UP)))?;
    let usage = || leg.proxy.map_or(Ok(Usage::default()), Running::usage);
    let (machine, before) = (Machine::now()?, usage()?);
    let outcome = LocalSet::new().block_on(runtime, generator::run(&load(plan.duration)))?;
    let (used, machine) = (usage()? - before, Machine::now()?.since(machine));
    if outcome.failed() > 0 {
        bail!("{}: wrong answers, so no figure: {:?}", leg.name, outcome.errors);
    }
    let requests = outcome.completed as f64;
    Ok(Run {
        cpu: used.cpu.as_secs_f64() * 1e6 / requests,
        user: used.user_ticks as f64 * TICK_US / requests,
        system: used.system_ticks as f64 * TICK_US / requests,
        machine: machine.busy as f64 * TICK_US / requests,
        sleeps: used.sleeps as f64 / requests,
        p50_ms: outcome.quantile_ms(0.5),
        p99_ms: outcome.quantile_ms(0.99),
    })
}

/// Holds one answer to each request against what the backend sends. Returns the names of added headers.
fn check(runtime: &Runtime, leg: &Leg<'_>, http2: bool) -> anyhow::Result<Vec<String>> {
    let mut added = Vec::new();
    for request in &leg.requests {
        let (head, body) = LocalSet::new().block_on(runtime, async {
            // The backend itself speaks HTTP/1 only.
            if http2 && leg.proxy.is_some() {
                generator::ask_http2(leg.target, request).await
            } else {
                generator::ask(leg.target, request).await
            }
        })?;
        ensure!(head.status == 200, "{} {}: status {}", request.host, request.path, head.status);
        ensure!(Sha256::digest(&body) == Sha256::digest(backend::body()), "the body is not the backend's");
        added = added_headers(&head, leg.proxy.is_some())?;
    }
    Ok(added)
}

fn added_headers(head: &Head, proxied: bool) -> anyhow::Result<Vec<String>> {
    let length = backend::BODY.to_string();
    let sent = backend::HEADERS.into_iter().chain([("content-length", length.as_str())]);
    for (name, value) in sent.clone() {
        let found: Vec<&str> =
            head.headers.iter().filter(|(held, _)| held == name).map(|(_, value)| value.as_str()).collect();
        ensure!(found == [value], "header {name} is {found:?} in place of {value:?}");
    }
    let added: Vec<String> = head
        .headers
        .iter()
        .filter(|(name, _)| !sent.clone().any(|(own, _)| own == name))
        .map(|(name, _)| name.clone())
        .collect();
    const FINE: [&str; 5] = ["server", "date", "connection", "via", "x-envoy-upstream-service-time"];
    for name in &added {
        ensure!(proxied && FINE.contains(&name.as_str()), "unexpected header {name}");
    }
    Ok(added)
}
