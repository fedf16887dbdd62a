//! Row 17: traffic while the configuration changes a hundred times a second.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::LocalSet;

use super::{Bench, Finding};
use crate::args::Peer;
use crate::generator::{self, Clients, Load, Outcome};
use crate::peers::Running;
use crate::{report, resources};

/// Routes that are loaded: hosts, and routes on each. With ten times as many, the core that publishes would be
/// what is measured.
const HOSTS: usize = 10;
const EACH: usize = 100;

const BETWEEN_CHANGES: Duration = Duration::from_millis(10);

/// Measures.
pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Finding> {
    let routes = resources::spread(HOSTS, EACH, Some(0));
    let mut proxies = vec![Running::l7proxy("l7proxy", &bench.options.l7proxy, bench.setting, &routes)?];
    if bench.options.peers.contains(&Peer::Envoy) {
        proxies.extend(Running::peer(Peer::Envoy, bench.options, bench.setting, &routes)?);
    }
    let mut table = report::table(&[
        "proxy",
        "requests",
        "wrong answers",
        "changes",
        "p50 ms quiet",
        "p50 ms changing",
        "p99 ms quiet",
        "p99 ms changing",
    ]);
    let mut data = Vec::new();
    let mut bars = Vec::new();
    for proxy in &mut proxies {
        proxy.wait_for(&bench.runtime, &resources::steady_request())?;
        let quiet = load(bench, proxy)?;
        let (changing, changes) = while_changing(bench, proxy)?;
        let wrong = quiet.failed() + changing.failed();
        table.add_row([
            proxy.name.clone(),
            (quiet.completed + changing.completed).to_string(),
            wrong.to_string(),
            changes.to_string(),
            format!("{:.3}", quiet.quantile_ms(0.5)),
            format!("{:.3}", changing.quantile_ms(0.5)),
            format!("{:.3}", quiet.quantile_ms(0.99)),
            format!("{:.3}", changing.quantile_ms(0.99)),
        ]);
        data.push(json!({
            "proxy": proxy.name,
            "requests": quiet.completed + changing.completed,
            "wrong": wrong,
            "errors": changing.errors,
            "changes": changes,
            "quiet_p99_ms": quiet.quantile_ms(0.99),
            "changing_p99_ms": changing.quantile_ms(0.99),
        }));
        if proxy.name == "l7proxy" {
            bars.push((format!("no wrong answer under {changes} changes: {wrong}"), wrong == 0));
        }
    }
    Ok(Finding { text: table.to_string(), data: data.into(), bars })
}

fn load(bench: &Bench<'_>, proxy: &Running) -> anyhow::Result<Outcome> {
    let load = Load {
        target: proxy.http1,
        clients: Clients::KeepAlive { connections: 64 },
        requests: vec![resources::steady_request()],
        rate: bench.options.rate.unwrap_or(2_000.0),
        duration: bench.options.seconds * 4,
    };
    LocalSet::new().block_on(&bench.runtime, generator::run(&load))
}

/// The load with changes beside it, and how many there were.
fn while_changing(bench: &Bench<'_>, proxy: &Running) -> anyhow::Result<(Outcome, u32)> {
    let control = proxy.control()?;
    let tables = [1, 2].map(|probe| resources::spread(HOSTS, EACH, Some(probe)));
    let (over, changes) = (AtomicBool::new(false), AtomicU32::new(0));
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            let begun = Instant::now();
            while !over.load(Ordering::Relaxed) {
                let number = changes.fetch_add(1, Ordering::Relaxed);
                control.prepare(&tables[number as usize % 2]).publish();
                let next = begun + BETWEEN_CHANGES * (number + 1);
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        let outcome = load(bench, proxy);
        over.store(true, Ordering::Relaxed);
        outcome
    })?;
    Ok((outcome, changes.into_inner()))
}
