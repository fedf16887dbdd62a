//! Rows 1, 2 and 5: CPU a request under an even load.

use serde_json::json;

use super::{Bench, Finding};
use crate::args::Peer;
use crate::block::{Leg, Plan, Series, compare};
use crate::generator::{Clients, Request};
use crate::peers::Running;
use crate::{report, resources};

/// Row 1. The rate is 40 % of what Envoy, the slowest, can do on the machine of docs/benchmarks.md.
pub(super) fn keep_alive(bench: &Bench<'_>) -> anyhow::Result<Finding> {
    let series = measure(bench, Clients::KeepAlive { connections: 64 }, 4_000.0)?;
    let mut finding = finding(&[("", &series)])?;
    for (peer, most) in [("envoy", 0.60), ("nginx", 1.25)] {
        if let Some(ratio) = series.of(peer).and_then(|standing| standing.ratio) {
            let bar = format!("at most {most:.2} of {peer}'s CPU a request: {:.3}", ratio.median);
            finding.bars.push((bar, ratio.median <= most));
        }
    }
    Ok(finding)
}

/// Row 2.
pub(super) fn new_connection(bench: &Bench<'_>) -> anyhow::Result<Finding> {
    let series = measure(bench, Clients::NewConnection { concurrency: 64 }, 1_000.0)?;
    finding(&[("", &series)])
}

/// Row 5.
pub(super) fn http2(bench: &Bench<'_>) -> anyhow::Result<Finding> {
    let one = measure(bench, Clients::Http2 { connections: 1, streams: 100 }, 4_000.0)?;
    let many = measure(bench, Clients::Http2 { connections: 64, streams: 10 }, 4_000.0)?;
    finding(&[("1 connection, 100 streams", &one), ("64 connections, 10 streams", &many)])
}

fn finding(all: &[(&str, &Series)]) -> anyhow::Result<Finding> {
    let mut text = String::new();
    let mut data = serde_json::Map::new();
    for (name, series) in all {
        if !name.is_empty() {
            text.push_str(&format!("{name}\n"));
        }
        text.push_str(&format!("{}\n", report::series(series)));
        let key = if name.is_empty() { "series" } else { name };
        data.insert(key.to_owned(), json!(series));
    }
    Ok(Finding { text, data: data.into(), bars: Vec::new() })
}

/// Ours twice, so that its spread against itself stands beside each ratio, and the peers.
fn measure(bench: &Bench<'_>, clients: Clients, rate: f64) -> anyhow::Result<Series> {
    let options = bench.options;
    let http2 = matches!(clients, Clients::Http2 { .. });
    let table = resources::catch_all();
    let again = options.l7proxy_before.as_ref();
    let second = if again.is_some() { "l7proxy before" } else { "l7proxy again" };
    let mut proxies = vec![
        Running::l7proxy("l7proxy", &options.l7proxy, bench.setting, &table)?,
        Running::l7proxy(second, again.unwrap_or(&options.l7proxy), bench.setting, &table)?,
    ];
    for peer in Peer::ALL {
        // The control peer is there in any case.
        if options.peers.contains(&peer) || peer == Peer::Nginx {
            proxies.extend(Running::peer(peer, options, bench.setting, &table)?);
        }
    }
    for proxy in &mut proxies {
        proxy.wait_for(&bench.runtime, &Request::default())?;
    }
    let requests = vec![Request::default()];
    let mut legs = Vec::new();
    if !http2 {
        // The backend speaks HTTP/1.
        let target = bench.setting.backend;
        legs.push(Leg { name: "direct".to_owned(), target, proxy: None, requests: requests.clone() });
    }
    legs.extend(proxies.iter().map(|proxy| Leg {
        name: proxy.name.clone(),
        target: if http2 { proxy.http2 } else { proxy.http1 },
        proxy: Some(proxy),
        requests: requests.clone(),
    }));
    let rate = options.rate.unwrap_or(rate);
    let plan = Plan { clients, rate, duration: options.seconds, blocks: options.blocks };
    compare(&bench.runtime, &legs, plan)
}
