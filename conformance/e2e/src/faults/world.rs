//! The quickstart under traffic, and hands to break it with.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mesh_testkit::certificate::Certificate;
use mesh_testkit::flow::Flow;
use mesh_testkit::namespace::command_in;
use mesh_testkit::traffic::{Load, Report, Target, Traffic};
use mesh_testkit::wait;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Rig;
use crate::{Stack, StackOptions};

/// A Service with a route: through the proxy, the client's address kept.
pub(super) const CATALOG: &str = "10.96.0.20";
/// A Service without a route, on plain TCP: balanced in the kernel.
const FLOW: (&str, u16) = ("10.96.0.30", 7);
/// Where the flow's backend listens in pod 2.
const FLOW_PORT: u16 = 7007;
/// The Gateway's address.
const GATEWAY: &str = "192.0.2.130";

const FLOW_MANIFEST: &str = "\
apiVersion: v1
kind: Service
metadata: {name: flow, namespace: shop}
spec:
  clusterIPs: [10.96.0.30]
  ipFamilies: [IPv4]
  ports: [{name: flow, port: 7, targetPort: 7007}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: flow-4, namespace: shop, labels: {kubernetes.io/service-name: flow}}
addressType: IPv4
endpoints: [{addresses: [10.244.1.12], conditions: {ready: true}}]
ports: [{name: flow, port: 7007}]
";

/// The quickstart with a Service of plain TCP beside it.
pub(super) struct World {
    pub(super) stack: Stack,
    _flow: Flow,
}

impl World {
    /// Serving and healthy.
    pub(super) fn serving(rig: &Rig) -> anyhow::Result<Self> {
        let mut world = Self::create(rig, &[])?;
        world.stack.start_agent()?;
        world.stack.wait_ready()?;
        Ok(world)
    }

    /// Its agent not yet started.
    pub(super) fn create(rig: &Rig, agent_arguments: &[&str]) -> anyhow::Result<Self> {
        let stack = Stack::create(StackOptions {
            prefix: rig.prefix.clone(),
            programs: rig.programs.clone(),
            bpf_object: rig.bpf_object.clone(),
            manifests: rig.manifests.clone(),
            pods: 3,
            agent_arguments: agent_arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        })?;
        let certificate = Certificate::for_hosts(&["shop.example.com"])?;
        stack.write_manifest("15-secret.yaml", &certificate.secret("shop", "shop-tls"))?;
        stack.write_manifest("60-flow.yaml", FLOW_MANIFEST)?;
        let pod = &stack.topology.pods[1];
        let flow = Flow::start(pod.namespace.listen(SocketAddr::new(pod.v4.into(), FLOW_PORT))?)?;
        Ok(Self { stack, _flow: flow })
    }

    /// Traffic of every kind, at a pace that leaves the machine room for what is to happen meanwhile.
    pub(super) fn traffic(&self) -> anyhow::Result<Mix> {
        self.traffic_with(Pace::default())
    }

    /// The same at another pace.
    pub(super) fn traffic_with(&self, pace: Pace) -> anyhow::Result<Mix> {
        let Pace { fresh, kept, http2, download } = pace;
        let flow = SocketAddr::new(FLOW.0.parse()?, FLOW.1);
        let loads = |target: Target| {
            vec![
                Load::Fresh { target: target.clone(), every: fresh },
                Load::Kept { target: target.clone(), connections: kept.0, every: kept.1 },
                Load::Http2 { target: target.clone(), connections: http2.0, every: http2.1 },
                Load::Download { target, bytes: 1 << 20, over: download },
            ]
        };
        let mut inside = loads(self.catalog());
        inside.push(Load::Flow { to: flow, every: Duration::from_millis(20) });
        let pod = Traffic::start(Some(self.stack.pod(1)), inside)?;
        let client = Traffic::start(Some(&self.stack.topology.client), loads(self.gateway()))?;
        let mix = Mix { traffics: vec![("pod", pod), ("client", client)] };
        wait::until("all kinds of traffic are answered", Duration::from_secs(10), || {
            let report = mix.report();
            let waits =
                report.loads.iter().find(|(name, tally)| tally.answered == 0 && !name.ends_with("download"));
            ensure!(waits.is_none(), "{report}\n{}", report.troubles());
            Ok(())
        })?;
        Ok(mix)
    }

    /// The Service that goes through the proxy.
    pub(super) fn catalog(&self) -> Target {
        let to = SocketAddr::new(CATALOG.parse().expect("an address"), 80);
        Target { to, host: "catalog".to_owned(), mark: Some("x-mesh") }
    }

    /// The Gateway, for clients outside.
    pub(super) fn gateway(&self) -> Target {
        let to = SocketAddr::new(GATEWAY.parse().expect("an address"), 80);
        Target { to, host: "gw.example.com".to_owned(), mark: Some("x-request-id") }
    }

    /// What `l7proxy status` says.
    pub(super) fn proxy_status(&self) -> anyhow::Result<Value> {
        let mut status = self.stack.program("l7proxy");
        status.args(["status", "--json", "--run-dir"]).arg(self.stack.run_dir());
        let output = status.stdin(Stdio::null()).output().context("cannot start l7proxy")?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("no status: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The process of the starter.
    pub(super) fn starter(&self) -> anyhow::Result<Pid> {
        pid(&self.proxy_status()?["starter"]["pid"])
    }

    /// The process of the worker that serves, once one does.
    pub(super) fn worker(&self) -> anyhow::Result<Pid> {
        wait::until("a worker serves", Duration::from_secs(10), || {
            let status = self.proxy_status()?;
            let workers = status["starter"]["workers"].as_array().cloned().unwrap_or_default();
            let serving = workers.iter().find(|worker| worker["state"] == "serving");
            pid(&serving.context("none serves")?["pid"])
        })
    }

    /// The process of the agent.
    pub(super) fn agent(&mut self) -> anyhow::Result<Pid> {
        let id = self.stack.agent().context("no agent runs")?.id();
        Pid::from_raw(i32::try_from(id)?).context("0 is no process")
    }

    /// What `millrace status` prints.
    pub(super) fn status_text(&self) -> anyhow::Result<String> {
        let mut status = self.stack.program("millrace");
        status.arg("status").env("MILLRACE_RUN_DIR", self.stack.run_dir());
        let output = status.stdin(Stdio::null()).output().context("cannot start millrace")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The ends of all logs, for the message of a failure.
    pub(super) fn logs(&self) -> String {
        format!("agent:\n{}\nproxy:\n{}", self.stack.log("agent.log"), self.stack.log("proxy.log"))
    }

    /// A copy of the proxy's program at a path of its own, which can be replaced.
    pub(super) fn own_proxy(&self, rig: &Rig) -> anyhow::Result<PathBuf> {
        let path = self.stack.folder().join("l7proxy");
        place(&rig.programs.join("l7proxy"), &path)?;
        Ok(path)
    }
}

/// Puts a copy of a program at a path, a new file, as a package manager does.
pub(super) fn place(from: &std::path::Path, to: &std::path::Path) -> anyhow::Result<()> {
    let new = to.with_extension("new");
    fs::copy(from, &new).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::rename(&new, to).with_context(|| format!("cannot replace {}", to.display()))
}

/// All rules and routes of a namespace, a line each.
pub(super) fn routing(node: &str) -> anyhow::Result<String> {
    let mut all = String::new();
    for arguments in [
        &["-4", "rule"][..],
        &["-6", "rule"],
        &["-4", "route", "show", "table", "all"],
        &["-6", "route", "show", "table", "all"],
    ] {
        let output = command_in(node, "ip").args(arguments).output().context("iproute2 is not installed")?;
        all.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    // Multicast routes of the kernel's own come and go with neighbours.
    let lines: BTreeSet<&str> = all.lines().filter(|line| !line.contains("ff00::")).collect();
    Ok(lines.into_iter().map(|line| format!("{line}\n")).collect())
}

fn pid(number: &Value) -> anyhow::Result<Pid> {
    let number = number.as_i64().context("no process id")?;
    Pid::from_raw(i32::try_from(number)?).context("0 is no process")
}

/// Sends a signal to a process of this stack.
pub(super) fn signal(process: Pid, signal: Signal) -> anyhow::Result<()> {
    kill_process(process, signal).with_context(|| format!("cannot signal {process:?}"))
}

/// Between two requests of each kind, and how many connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) fresh: Duration,
    pub(super) kept: (usize, Duration),
    pub(super) http2: (usize, Duration),
    pub(super) download: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let every = Duration::from_millis;
        Self { fresh: every(10), kept: (4, every(20)), http2: (2, every(20)), download: every(4000) }
    }
}

/// The traffic of all places.
pub(super) struct Mix {
    traffics: Vec<(&'static str, Traffic)>,
}

impl Mix {
    /// So far.
    pub(super) fn report(&self) -> Report {
        Report::join(self.traffics.iter().map(|(place, traffic)| (*place, traffic.report())))
    }

    /// Ends it.
    pub(super) fn finish(self) -> anyhow::Result<Report> {
        let reports = self.traffics.into_iter().map(|(place, traffic)| Ok((place, traffic.finish()?)));
        Ok(Report::join(reports.collect::<anyhow::Result<Vec<_>>>()?))
    }

    /// Waits until each steady kind has been answered after now, and says how long that took.
    pub(super) fn answered_again(&self, within: Duration) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let before = self.report();
        wait::until("all kinds of traffic are answered again", within, || {
            let now = self.report();
            let waits = now.loads.iter().zip(&before.loads).find(|((name, now), (_, before))| {
                now.answered == before.answered && !name.ends_with("download")
            });
            ensure!(
                waits.is_none(),
                "{} is not:\n{now}\n{}",
                waits.map_or("", |((name, _), _)| name),
                now.troubles()
            );
            Ok(())
        })?;
        Ok(begun.elapsed())
    }
}

/// Fails, with everything that is known, unless nothing was lost, failed, answered wrongly or cut.
pub(super) fn ensure_unharmed(world: &World, report: &Report) -> anyhow::Result<()> {
    let harm = report.sum(|tally| tally.lost + tally.failed + tally.wrong + tally.cut);
    ensure!(harm == 0, "{report}\n{}\n{}", report.troubles(), world.logs());
    Ok(())
}

/// Fails unless no backend saw a request twice.
pub(super) fn ensure_once(world: &World) -> anyhow::Result<()> {
    let twice = world.stack.ledger.duplicated();
    ensure!(twice == 0, "{twice} of {} requests were sent twice", world.stack.ledger.distinct());
    Ok(())
}

/// Random numbers whose seed is told, so that a run can be done again in the same order.
pub(super) struct Dice {
    state: u64,
}

impl Dice {
    /// Of a fresh seed, or of the one in `MILLRACE_SEED`.
    pub(super) fn new() -> Self {
        let told = std::env::var("MILLRACE_SEED").ok().and_then(|seed| seed.parse().ok());
        Self { state: told.unwrap_or_else(|| RandomState::new().hash_one(0_u8)).max(1) }
    }

    /// What to set `MILLRACE_SEED` to.
    pub(super) fn seed(&self) -> u64 {
        self.state
    }

    /// A time below `most` (xorshift).
    pub(super) fn time_below(&mut self, most: Duration) -> Duration {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        most.mul_f64((self.state >> 11) as f64 / (1_u64 << 53) as f64)
    }
}
