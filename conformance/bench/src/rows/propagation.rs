//! Row 16: from a published change to the first request that it serves.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use serde_json::json;

use super::{Bench, Finding};
use crate::args::Peer;
use crate::generator::Connection;
use crate::peers::Running;
use crate::{report, resources};

/// Routes that are loaded: as hosts, and routes on each.
const SHAPES: [(usize, usize); 2] = [(100, 100), (1, 10_000)];

/// What 99 of 100 changes may take.
const MOST: Duration = Duration::from_millis(10);

/// Changes that are timed. Envoy takes longer for each.
const CHANGES: usize = 300;
const CHANGES_OF_ENVOY: usize = 40;

/// Between two changes.
const PAUSE: Duration = Duration::from_millis(30);
/// Between two questions whether the change serves.
const POLL: Duration = Duration::from_micros(100);

/// Measures.
pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Finding> {
    let mut table = report::table(&["proxy, routes", "changes", "p50 ms", "p99 ms", "max ms"]);
    let mut data = Vec::new();
    let mut bars = Vec::new();
    for (hosts, each) in SHAPES {
        let routes = resources::spread(hosts, each, Some(0));
        let ours = Running::l7proxy("l7proxy", &bench.options.l7proxy, bench.setting, &routes)?;
        let mut proxies = vec![(ours, CHANGES)];
        if bench.options.peers.contains(&Peer::Envoy) {
            let envoy = Running::peer(Peer::Envoy, bench.options, bench.setting, &routes)?;
            proxies.extend(envoy.map(|envoy| (envoy, CHANGES_OF_ENVOY)));
        }
        for (mut proxy, changes) in proxies {
            let times = propagate(bench, &mut proxy, hosts, each, changes)?;
            let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
            let p99 = ms(times.value_at_quantile(0.99));
            let name = format!("{}, {hosts} x {each}", proxy.name);
            table.add_row([
                name.clone(),
                times.len().to_string(),
                format!("{:.2}", ms(times.value_at_quantile(0.5))),
                format!("{p99:.2}"),
                format!("{:.2}", ms(times.max())),
            ]);
            data.push(json!({
                "proxy": proxy.name,
                "hosts": hosts,
                "routes_a_host": each,
                "changes": times.len(),
                "p50_ms": ms(times.value_at_quantile(0.5)),
                "p99_ms": p99,
                "max_ms": ms(times.max()),
            }));
            if proxy.name == "l7proxy" {
                let bar = format!("{name}: p99 at most {} ms: {p99:.2}", MOST.as_millis());
                bars.push((bar, p99 <= ms(MOST.as_nanos() as u64)));
            }
        }
    }
    Ok(Finding { text: table.to_string(), data: data.into(), bars })
}

/// Nanoseconds from publishing to the end of the first 200, for each change.
fn propagate(
    bench: &Bench<'_>,
    proxy: &mut Running,
    hosts: usize,
    each: usize,
    changes: usize,
) -> anyhow::Result<Histogram<u64>> {
    proxy.wait_for(&bench.runtime, &resources::probe_request(hosts, 0))?;
    let mut times = Histogram::<u64>::new_with_bounds(1_000, 60_000_000_000, 3).context("no histogram")?;
    // One that stays, as clients have them: a new one for each question would take half of the proxy's core.
    let mut connection = bench.runtime.block_on(Connection::open(proxy.http1))?;
    for change in 1..=changes {
        let prepared = proxy.control()?.prepare(&resources::spread(hosts, each, Some(change)));
        let request = resources::probe_request(hosts, change);
        std::thread::sleep(PAUSE);
        let begun = Instant::now();
        prepared.publish();
        loop {
            let (head, _) = bench.runtime.block_on(connection.ask(&request))?;
            match head.status {
                200 => break,
                404 if begun.elapsed() < Duration::from_secs(20) => std::thread::sleep(POLL),
                status => bail!("{}: status {status} while a route was added", proxy.name),
            }
        }
        times.saturating_record(begun.elapsed().as_nanos() as u64);
    }
    Ok(times)
}
