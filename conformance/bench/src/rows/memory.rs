//! Rows 19 and 20: memory of processes that do nothing, and of routes.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Bench, Finding};
use crate::args::Peer;
use crate::generator::Request;
use crate::peers::{Agent, Running};
use crate::{report, resources};

/// For agent and proxy together.
const MOST_IDLE: u64 = 40 << 20;
/// For a route.
const MOST_A_ROUTE: f64 = 1536.0;

/// After the last change, until what was used for it was given back.
const SETTLE: Duration = Duration::from_secs(3);

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// Row 19.
pub(super) fn idle(bench: &Bench<'_>) -> anyhow::Result<Finding> {
    let mut table = report::table(&["idle, one route", "MiB"]);
    let mut data = Vec::new();
    let mut bars = Vec::new();
    let routes = resources::catch_all();
    let mut proxies = vec![Running::l7proxy("l7proxy", &bench.options.l7proxy, bench.setting, &routes)?];
    for peer in Peer::ALL {
        if bench.options.peers.contains(&peer) {
            proxies.extend(Running::peer(peer, bench.options, bench.setting, &routes)?);
        }
    }
    for proxy in &mut proxies {
        proxy.wait_for(&bench.runtime, &Request::default())?;
    }
    std::thread::sleep(SETTLE);
    for proxy in &proxies {
        let bytes = proxy.memory()?;
        table.add_row([proxy.name.clone(), mib(bytes)]);
        data.push(json!({ "proxy": proxy.name, "bytes": bytes, "processes": processes(proxy)? }));
    }
    match &bench.options.agent {
        None => eprintln!("SKIPPED: agent and proxy together: --agent names no binary"),
        Some(binary) => {
            let agent = Agent::start(binary, &bench.options.l7proxy)?;
            std::thread::sleep(SETTLE);
            let mut sum = 0;
            for (name, bytes) in agent.memory_by_process()? {
                sum += bytes;
                table.add_row([format!("quickstart: {name}"), mib(bytes)]);
                data.push(json!({ "quickstart": name, "bytes": bytes }));
            }
            table.add_row(["quickstart: all".to_owned(), mib(sum)]);
            let bar = format!("agent and proxy at most {} MiB: {}", mib(MOST_IDLE), mib(sum));
            bars.push((bar, sum <= MOST_IDLE));
        }
    }
    Ok(Finding { text: table.to_string(), data: data.into(), bars })
}

fn processes(proxy: &Running) -> anyhow::Result<Value> {
    let all = proxy.memory_by_process()?;
    Ok(all.into_iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect())
}

/// Row 20: hosts with 100 routes each.
pub(super) fn routes(bench: &Bench<'_>) -> anyhow::Result<Finding> {
    let mut table =
        report::table(&["proxy", "routes", "MiB", "KiB a route", "of it kept for the next worker"]);
    let mut data = Vec::new();
    let mut bars = Vec::new();
    for (peer, sizes) in [(None, [10_000, 100_000].as_slice()), (Some(Peer::Envoy), &[10_000])] {
        if peer.is_some_and(|peer| !bench.options.peers.contains(&peer)) {
            continue;
        }
        let Some((empty, _)) = with_routes(bench, peer, 0)? else { continue };
        for &size in sizes {
            let Some((full, kept)) = with_routes(bench, peer, size)? else { continue };
            let each = full.saturating_sub(empty) as f64 / size as f64;
            let name = peer.map_or("l7proxy", Peer::name);
            table.add_row([
                name.to_owned(),
                size.to_string(),
                mib(full),
                format!("{:.2}", each / 1024.0),
                format!("{:.2}", kept as f64 / size as f64 / 1024.0),
            ]);
            data.push(
                json!({ "proxy": name, "routes": size, "bytes": full, "bytes_a_route": each, "kept": kept }),
            );
            if peer.is_none() {
                let bar = format!("{size} routes: at most 1.5 KiB each: {:.2}", each / 1024.0);
                bars.push((bar, each <= MOST_A_ROUTE));
            }
        }
    }
    Ok(Finding { text: table.to_string(), data: data.into(), bars })
}

/// Bytes with so many routes, and of them those in sealed memory.
fn with_routes(bench: &Bench<'_>, peer: Option<Peer>, count: usize) -> anyhow::Result<Option<(u64, u64)>> {
    let (routes, request) = match count {
        0 => (resources::catch_all(), Request::default()),
        count => (resources::spread(count / 100, 100, None), resources::steady_request()),
    };
    let started = match peer {
        None => Some(Running::l7proxy("l7proxy", &bench.options.l7proxy, bench.setting, &routes)?),
        Some(peer) => Running::peer(peer, bench.options, bench.setting, &routes)?,
    };
    let Some(mut proxy) = started else { return Ok(None) };
    proxy.wait_for(&bench.runtime, &request)?;
    std::thread::sleep(SETTLE);
    let sealed = proxy.sealed_memory()?;
    Ok(Some((proxy.memory()? + sealed, sealed)))
}
