//! Row 14: what a request costs with many routes.

use std::fmt::Write;

use serde_json::json;

use super::{Bench, Finding};
use crate::args::Peer;
use crate::block::{Leg, Plan, Series, compare};
use crate::generator::{Clients, Request};
use crate::peers::Running;
use crate::report;
use crate::resources::{self, Kind};

/// The most that a request may cost with 10,000 routes, as a share of what it costs with one.
const FLAT: f64 = 1.05;

/// Three hosts, with that many exact, prefix and header routes; requests for the last of each in turn.
const SIZES: [usize; 3] = [10_000, 1_000, 1];

/// Envoy tries route after route: at 10,000 it does some hundred requests a second.
const RATE_BESIDE_ENVOY: f64 = 250.0;

/// Measures.
pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Finding> {
    let rate = bench.options.rate.unwrap_or(8_000.0);
    let ours = run(bench, &SIZES, &[], rate)?;
    let mut text = format!("{}\n", report::series(&ours));
    let mut data = json!({ "sizes": ours });
    let mut bars = Vec::new();
    if let Some(ratio) = ours.of(&name("l7proxy", 1)).and_then(|standing| standing.ratio) {
        let bar =
            format!("with 10,000 routes a host at most {FLAT} of the cost with one: {:.3}", ratio.median);
        bars.push((bar, ratio.median <= FLAT));
    }
    if bench.options.peers.contains(&Peer::Envoy) {
        let beside = run(bench, &[10_000, 1], &[10_000, 1_000, 1], RATE_BESIDE_ENVOY)?;
        let _ = write!(text, "\nbeside Envoy, at a rate that it can do\n{}\n", report::series(&beside));
        data["beside_envoy"] = json!(beside);
    }
    Ok(Finding { text, data, bars })
}

fn name(proxy: &str, size: usize) -> String {
    format!("{proxy}, {size} a host")
}

fn run(bench: &Bench<'_>, ours: &[usize], envoys: &[usize], rate: f64) -> anyhow::Result<Series> {
    let options = bench.options;
    let mut proxies = Vec::new();
    for &size in ours {
        let table = resources::by_kind(size);
        let proxy = Running::l7proxy(&name("l7proxy", size), &options.l7proxy, bench.setting, &table)?;
        proxies.push((proxy, requests(size)));
    }
    for &size in envoys {
        let table = resources::by_kind(size);
        if let Some(mut proxy) = Running::peer(Peer::Envoy, options, bench.setting, &table)? {
            proxy.name = name("envoy", size);
            proxies.push((proxy, requests(size)));
        }
    }
    // Without a look at the path, for the machine's drift alone.
    let any = resources::catch_all();
    if let Some(control) = Running::peer(Peer::Nginx, options, bench.setting, &any)? {
        proxies.push((control, requests(1)));
    }
    for (proxy, requests) in &mut proxies {
        proxy.wait_for(&bench.runtime, &requests[0])?;
    }
    let legs: Vec<Leg<'_>> = proxies
        .iter()
        .map(|(proxy, requests)| Leg {
            name: proxy.name.clone(),
            target: proxy.http1,
            proxy: Some(proxy),
            requests: requests.clone(),
        })
        .collect();
    let clients = Clients::KeepAlive { connections: 64 };
    compare(&bench.runtime, &legs, Plan { clients, rate, duration: options.seconds, blocks: options.blocks })
}

fn requests(size: usize) -> Vec<Request> {
    Kind::ALL.into_iter().map(|kind| kind.request(size - 1)).collect()
}
