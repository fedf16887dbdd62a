//! No file descriptors left.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mesh_testkit::http::{Connection, Speak, get_unix};
use mesh_testkit::namespace::Namespace;
use mesh_testkit::traffic::{Load, Traffic};
use mesh_testkit::wait;
use rustix::process::Pid;

use super::world::{World, ensure_once};
use super::{Length, Rig};

/// Descriptors that the worker may open beyond those it has.
const ROOM: u64 = 64;
/// Connections that are opened at it.
const CROWD: usize = 200;
/// How long it is watched while it has none.
const WATCHED: Duration = Duration::from_secs(4);
/// Share of one core that a process may take meanwhile.
const BUSY_AT_MOST: f64 = 0.05;
const RECOVERED_WITHIN: Duration = Duration::from_secs(3);
/// How long the agent may take to notice what it could not read.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);
/// Requests at once, more than connections that keep a pod's address wait in the pool.
const AT_ONCE: usize = 8;

pub(super) fn exhausted(rig: &Rig, length: Length) -> anyhow::Result<String> {
    let rounds = length.rounds(1, Duration::from_secs(20));
    let mut world = World::serving(rig)?;
    let mut told = Vec::new();
    for _ in 0..rounds {
        told.push(worker(&world).context("the worker")?);
        told.push(starter(&world).context("the starter")?);
        told.push(agent(&mut world).context("the agent")?);
    }
    ensure_once(&world)?;
    Ok(told.join("\n"))
}

fn worker(world: &World) -> anyhow::Result<String> {
    let worker = world.worker()?;
    let client = &world.stack.topology.client;
    // Slow enough that answering costs next to nothing.
    let every = Duration::from_millis(100);
    let kept = vec![Load::Kept { target: world.gateway(), connections: 2, every }];
    let kept = Traffic::start(Some(client), kept)?;
    wait::until("kept connections are answered", RECOVERED_WITHIN, || {
        ensure!(kept.report().sum(|tally| tally.answered) > 4, "{}", kept.report());
        Ok(())
    })?;
    let before = descriptors(worker)?;
    let limit = Limit::set(worker, lowest_free(worker)? + ROOM)?;
    let to = world.gateway().to;
    let crowd: Vec<TcpStream> = (0..CROWD).map(|_| client.connect(to)).collect::<Result<_, _>>()?;
    let busy = busy(worker, WATCHED)?;
    ensure!(busy < BUSY_AT_MOST, "{:.1} % of a core while it cannot accept", busy * 100.0);
    let admin = world.stack.run_dir().join("proxy-admin.sock");
    let info = get_unix(&admin, "/server_info").context("the admin socket does not answer")?;
    ensure!(info["state"] == "LIVE", "{info}");
    // It keeps some back for connections to backends.
    let accepted = descriptors(worker)? - before;
    ensure!(accepted > 0 && accepted < ROOM, "{accepted} of {CROWD} accepted with {ROOM} descriptors free");
    drop(crowd);
    let begun = Instant::now();
    wait::until("new connections are answered again", RECOVERED_WITHIN, || answers(client, to))?;
    let recovered = begun.elapsed();
    drop(limit);
    let report = kept.finish()?;
    let harm = report.sum(|tally| tally.unanswered() + tally.cut);
    ensure!(harm == 0, "connections that were there: {report}\n{}", report.troubles());
    ensure!(world.worker()? == worker, "the worker died\n{}", world.logs());
    Ok(format!(
        "worker: {CROWD} connections with {ROOM} descriptors free ({accepted} accepted): {:.1} % of a core, admin \
         socket answers, recovered after {} ms\n{report}",
        busy * 100.0,
        recovered.as_millis()
    ))
}

/// Without descriptors the starter cannot make the sockets that keep a client's address; nothing else may
/// suffer, and no worker may die of it.
fn starter(world: &World) -> anyhow::Result<String> {
    let (starter, worker) = (world.starter()?, world.worker()?);
    let pod = world.stack.pod(1);
    let limit = Limit::set(starter, lowest_free(starter)?)?;
    let (mut refused, mut answered) = (0, 0);
    for outcome in at_once(pod, world.catalog().to) {
        match outcome? {
            200 => answered += 1,
            503 => refused += 1,
            other => anyhow::bail!("answered with {other}"),
        }
    }
    ensure!(refused > 0, "all {answered} were answered: the starter had descriptors");
    // The configuration is stored with a descriptor too.
    let original = fs::read_to_string(world.stack.original_manifests().join("40-mesh.yaml"))?;
    world.stack.write_manifest("40-mesh.yaml", &original.replace("value: millrace", "value: scarce"))?;
    let busy = busy(starter, Duration::from_secs(2))?;
    ensure!(busy < BUSY_AT_MOST, "the starter takes {:.1} % of a core", busy * 100.0);
    answers(&world.stack.topology.client, world.gateway().to)?;
    drop(limit);
    wait::until("the starter answers, and its worker is the old one", RECOVERED_WITHIN, || {
        ensure!(world.starter()? == starter, "another starter");
        ensure!(world.worker()? == worker, "another worker\n{}", world.logs());
        Ok(())
    })?;
    wait::until("addresses are kept again", RECOVERED_WITHIN, || answers(pod, world.catalog().to))?;
    Ok(format!(
        "starter: {answered} answered and {refused} refused (503) while it had none; {:.1} % of a core",
        busy * 100.0
    ))
}

fn agent(world: &mut World) -> anyhow::Result<String> {
    let agent = world.agent()?;
    let limit = Limit::set(agent, lowest_free(agent)?)?;
    // Reading a file takes a descriptor.
    let original = fs::read_to_string(world.stack.original_manifests().join("40-mesh.yaml"))?;
    world
        .stack
        .write_manifest("40-mesh.yaml", &original.replace("value: millrace", "value: made-meanwhile"))?;
    let busy = busy(agent, WATCHED)?;
    let marked = |value: &str| {
        let mut connection =
            Connection::open(world.stack.pod(1).connect(world.catalog().to)?, &Speak::Http1)?;
        let answer = connection.get("catalog", "/")?;
        let seen: serde_json::Value = serde_json::from_slice(&answer.body)?;
        ensure!(seen["headers"]["x-mesh"][0] == value, "{seen}");
        anyhow::Ok(())
    };
    ensure!(marked("made-meanwhile").is_err(), "the agent had descriptors: it read a file");
    let (client, gateway) = (&world.stack.topology.client, world.gateway().to);
    ensure!(busy < 2.0 * BUSY_AT_MOST, "the agent takes {:.1} % of a core", busy * 100.0);
    answers(client, gateway)?;
    drop(limit);
    wait::until("the edit made meanwhile is served", NOTICED_WITHIN, || marked("made-meanwhile"))
        .with_context(|| world.logs())?;
    world.stack.write_manifest("40-mesh.yaml", &original)?;
    world.stack.wait_ready()?;
    ensure!(world.agent()? == agent, "the agent died\n{}", world.logs());
    Ok(format!("agent: {:.1} % of a core while it had none; ready again", busy * 100.0))
}

/// Requests of one pod at the same time, so that most need a connection of their own; the status of each.
fn at_once(pod: &Namespace, to: SocketAddr) -> Vec<anyhow::Result<u16>> {
    let ask = || {
        let mut connection = Connection::open(pod.connect(to)?, &Speak::Http1)?;
        Ok(connection.get("catalog", "/bytes/100/over/300")?.status.as_u16())
    };
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|one| one.join().expect("asking does not panic")).collect()
    })
}

fn answers(from: &Namespace, to: SocketAddr) -> anyhow::Result<()> {
    let host = if to.ip().to_string() == super::world::CATALOG { "catalog" } else { "gw.example.com" };
    let answer = Connection::open(from.connect(to)?, &Speak::Http1)?.get(host, "/")?;
    ensure!(answer.status == 200, "answered with {}", answer.status);
    Ok(())
}

/// How many descriptors a process has open.
fn descriptors(process: Pid) -> anyhow::Result<u64> {
    let folder = format!("/proc/{}/fd", process.as_raw_nonzero());
    Ok(fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?.count() as u64)
}

/// The lowest number that the next descriptor of a process could have: a limit of it leaves none.
fn lowest_free(process: Pid) -> anyhow::Result<u64> {
    let folder = format!("/proc/{}/fd", process.as_raw_nonzero());
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    let taken: BTreeSet<u64> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    Ok((0..).find(|number| !taken.contains(number)).unwrap_or_default())
}

/// The share of one core that a process took over a while.
fn busy(process: Pid, over: Duration) -> anyhow::Result<f64> {
    let (before, begun) = (processor_time(process)?, Instant::now());
    std::thread::sleep(over);
    Ok((processor_time(process)? - before).as_secs_f64() / begun.elapsed().as_secs_f64())
}

/// What all threads of a process took so far (proc(5), `schedstat`: nanoseconds on the processor).
fn processor_time(process: Pid) -> anyhow::Result<Duration> {
    let tasks = format!("/proc/{}/task", process.as_raw_nonzero());
    let mut nanoseconds = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text.split(' ').next().context("schedstat is empty")?;
        nanoseconds += first.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// A limit on the open files of a process, lifted when dropped.
struct Limit {
    process: Pid,
    before: (u64, u64),
}

impl Limit {
    fn set(process: Pid, value: u64) -> anyhow::Result<Self> {
        let before = current_limit(process)?;
        set_limit(process, (value, before.1))?;
        Ok(Self { process, before })
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // The process may have ended.
        let _ = set_limit(self.process, self.before);
    }
}

/// By prlimit(1), as the process's own user: root may not have the capability to limit others.
fn set_limit(process: Pid, (soft, hard): (u64, u64)) -> anyhow::Result<()> {
    let status = format!("/proc/{}/status", process.as_raw_nonzero());
    let text = fs::read_to_string(&status).with_context(|| format!("cannot read {status}"))?;
    let id = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).context("a process has a user")
    };
    let mut prlimit = Command::new("prlimit");
    prlimit.arg(format!("--pid={}", process.as_raw_nonzero())).arg(format!("--nofile={soft}:{hard}"));
    let output = prlimit.gid(id("Gid:")?).uid(id("Uid:")?).output().context("util-linux is not installed")?;
    ensure!(
        output.status.success(),
        "cannot limit the open files: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The soft and the hard limit, from `/proc/PID/limits`.
fn current_limit(process: Pid) -> anyhow::Result<(u64, u64)> {
    let path = format!("/proc/{}/limits", process.as_raw_nonzero());
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    let mut numbers = line.context("no limit on open files")?.split_whitespace().map(str::parse::<u64>);
    let mut next = || anyhow::Ok(numbers.next().context("a limit is missing")??);
    Ok((next()?, next()?))
}
