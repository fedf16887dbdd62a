//! Pure: from two states, one after the other, to what happened in between.

use std::collections::{BTreeMap, BTreeSet};

use mesh_k8s_api::{ChangeKind, ObjectSet};
use mesh_k8s_reflect::{Phase, Scope, WatchState};
use mesh_l7proxy_wire::StarterStatus;
use mesh_xds::server::{Connection, Rejection};
use serde_json::json;

use crate::events::{Happened, Kind, Severity};
use crate::health::{PartHealth, Problem};
use crate::processes::serving;
use crate::status::Transition;

/// More objects than these at once are counted instead of listed, so that a large folder does not push
/// everything else out of the memory.
const LISTED: usize = 64;

/// Objects that came, went, or changed.
pub(crate) fn objects(before: &ObjectSet, after: &ObjectSet) -> Vec<Happened> {
    let changes = after.changes_since(before);
    if changes.len() > LISTED {
        let count = |kind| changes.iter().filter(|change| change.kind == kind).count();
        let (added, changed, removed) =
            (count(ChangeKind::Added), count(ChangeKind::Changed), count(ChangeKind::Removed));
        let message = format!("{added} objects added, {changed} changed, {removed} removed");
        let details = json!({"added": added, "changed": changed, "removed": removed});
        return vec![Happened::normal(Kind::ObjectsChanged, "", message).with(details)];
    }
    let happened = changes.iter().map(|change| {
        let source = &change.source;
        let (kind, message) = match change.kind {
            ChangeKind::Added => (Kind::ObjectAdded, format!("read from {source}")),
            ChangeKind::Changed => (Kind::ObjectChanged, format!("read from {source}")),
            ChangeKind::Removed => (Kind::ObjectRemoved, format!("no longer in {source}")),
        };
        Happened::normal(kind, change.object.to_string(), message).with(json!({"source": source.to_string()}))
    });
    happened.collect()
}

/// Kinds that a cluster has not or has now, and those that cannot be read while the others can. That the API server
/// is away is told by the part.
pub(crate) fn watches(before: &[WatchState], after: &[WatchState]) -> Vec<Happened> {
    let was: BTreeMap<&Scope, &Phase> = before.iter().map(|watch| (&watch.scope, &watch.phase)).collect();
    let happened = after.iter().filter_map(|WatchState { scope, phase }| {
        let was = was.get(scope).copied().unwrap_or(&Phase::Reading);
        let refused = |phase: &Phase| match phase {
            Phase::Failing { failure, .. } if !failure.is_of_server() => Some(failure.clone()),
            _ => None,
        };
        match (was, phase) {
            (Phase::Absent, Phase::Absent) => None,
            (_, Phase::Absent) => {
                let message =
                    "the cluster has no such kind; it is read as soon as its definition is installed";
                Some(Happened::normal(Kind::WatchChanged, scope.to_string(), message))
            }
            (Phase::Absent, Phase::Live) => {
                Some(Happened::normal(Kind::WatchChanged, scope.to_string(), "the cluster has the kind now"))
            }
            _ => match (refused(was), refused(phase)) {
                (None, Some(failure)) => {
                    let message = format!("{}; to mend: {}", failure.message, failure.fix);
                    Some(Happened::warning(Kind::WatchChanged, scope.to_string(), message))
                }
                (Some(_), None) if matches!(phase, Phase::Live) => {
                    Some(Happened::normal(Kind::WatchChanged, scope.to_string(), "read again"))
                }
                _ => None,
            },
        }
    });
    happened.collect()
}

/// Problems that came and went.
pub(crate) fn problems(before: &[Problem], after: &[Problem]) -> Vec<Happened> {
    let (was, is): (BTreeSet<&Problem>, BTreeSet<&Problem>) =
        (before.iter().collect(), after.iter().collect());
    let subject = |problem: &Problem| match problem.object.is_empty() {
        true => problem.source.clone(),
        false => problem.object.clone(),
    };
    let refused = is.difference(&was).map(|problem| {
        Happened::warning(Kind::ObjectRefused, subject(problem), problem.text()).with(json!(problem))
    });
    let mended = was.difference(&is).map(|problem| {
        let message = format!("no longer: {}", problem.message);
        Happened::normal(Kind::ObjectMended, subject(problem), message).with(json!(problem))
    });
    limited(mended.chain(refused).collect(), "problems came or went; see the status")
}

/// Conditions that are others than before.
pub(crate) fn conditions(transitions: &[Transition]) -> Vec<Happened> {
    let happened = transitions.iter().map(|transition| {
        let Transition { object, scope, condition, is_bad, status, reason, message } = transition;
        let place = if scope.is_empty() { String::new() } else { format!("{scope}: ") };
        let text = format!("{place}{condition} is {status}, {reason}: {message}");
        let details = json!({
            "scope": scope, "type": condition, "status": status, "reason": reason, "message": message,
        });
        let happened = match is_bad {
            true => Happened::warning(Kind::ConditionChanged, object, text),
            false => Happened::normal(Kind::ConditionChanged, object, text),
        };
        happened.with(details)
    });
    limited(happened.collect(), "conditions changed; see the objects")
}

/// All of them, or, where they are too many, one event for each kind and severity among them.
fn limited(happened: Vec<Happened>, what: &str) -> Vec<Happened> {
    if happened.len() <= LISTED {
        return happened;
    }
    let mut counts: Vec<(Kind, Severity, usize)> = Vec::new();
    for Happened { kind, severity, .. } in &happened {
        match counts.iter_mut().find(|(of, with, _)| (of, with) == (kind, severity)) {
            Some((_, _, count)) => *count += 1,
            None => counts.push((*kind, *severity, 1)),
        }
    }
    let summed = counts.into_iter().map(|(kind, severity, count)| {
        let message = format!("{count} {what}");
        let happened = match severity {
            Severity::Warning => Happened::warning(kind, "", message),
            Severity::Normal => Happened::normal(kind, "", message),
        };
        happened.with(json!({"count": count}))
    });
    summed.collect()
}

/// Parts whose state is another one.
pub(crate) fn parts(before: &[PartHealth], after: &[PartHealth]) -> Vec<Happened> {
    let was: BTreeMap<&str, &str> = before.iter().map(|part| (part.name, part.state)).collect();
    let changed = after.iter().filter(|part| was.get(part.name).is_none_or(|state| *state != part.state));
    let happened = changed.map(|part| {
        let fix = if part.fix.is_empty() { String::new() } else { format!("; to mend: {}", part.fix) };
        let message = format!("{}: {}{fix}", part.state, part.detail);
        let happened = match part.state {
            "degraded" => Happened::warning(Kind::PartChanged, part.name, message),
            _ => Happened::normal(Kind::PartChanged, part.name, message),
        };
        happened.with(json!(part))
    });
    happened.collect()
}

/// What the xDS clients did.
pub(crate) fn clients(before: &[Connection], after: &[Connection]) -> Vec<Happened> {
    let was: BTreeMap<u64, &Connection> =
        before.iter().map(|connection| (connection.id, connection)).collect();
    let still: BTreeSet<u64> = after.iter().map(|connection| connection.id).collect();
    let mut happened = Vec::new();
    for gone in before.iter().filter(|connection| !still.contains(&connection.id)) {
        happened.push(told(Kind::XdsDisconnected, gone, "its stream ended".to_owned()));
    }
    for connection in after {
        let last = was.get(&connection.id);
        // Who it is, a client says with its first request.
        let is_known = |connection: &Connection| !connection.node_id.is_empty();
        if is_known(connection) && last.is_none_or(|last| !is_known(last)) {
            happened.push(told(Kind::XdsConnected, connection, "it opened a stream".to_owned()));
        }
        let settled = last.map_or(0, |last| last.settled);
        if connection.settled > settled {
            let message = format!("it answered everything of revision {}", connection.settled);
            happened.push(told(Kind::XdsAcked, connection, message));
        }
    }
    happened
}

fn told(kind: Kind, connection: &Connection, message: String) -> Happened {
    let pid = connection.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    let subject = format!("{}{pid}", connection.node_id);
    let details = json!({
        "node": connection.node_id, "pid": connection.pid, "revision": connection.settled,
    });
    Happened::normal(kind, subject, message).with(details)
}

/// Resources that a client refuses now and did not before.
pub(crate) fn refusals(before: &[Rejection], after: &[Rejection]) -> Vec<Happened> {
    let new = after.iter().filter(|rejection| !before.contains(rejection));
    let happened = new.map(|rejection| {
        let kind = rejection.type_url.rsplit('.').next().unwrap_or(&rejection.type_url);
        let subject = format!("{kind} {}", rejection.name);
        let message =
            format!("{} refused it, the last good one stays: {}", rejection.node_id, rejection.nack.message);
        Happened::warning(Kind::XdsRefused, subject, message).with(json!({
            "node": rejection.node_id,
            "type": rejection.type_url,
            "name": rejection.name,
            "version": rejection.nack.version,
            "reason": rejection.nack.message,
        }))
    });
    limited(happened.collect(), "resources refused; see `millrace xds clients`")
}

/// What became of the proxy's processes. `None`: no starter answers.
pub(crate) fn processes(before: Option<&StarterStatus>, after: Option<&StarterStatus>) -> Vec<Happened> {
    let Some(after) = after else {
        let gone = before.map(|before| {
            let message = format!("the starter (pid {}) does not answer any more", before.pid);
            Happened::warning(Kind::ProxyGone, "proxy", message).with(json!({"pid": before.pid}))
        });
        return gone.into_iter().collect();
    };
    let mut happened = Vec::new();
    let same_starter = before.filter(|before| before.pid == after.pid);
    if same_starter.is_none() {
        let message = format!("a starter answers (pid {}, version {})", after.pid, after.version);
        let details = json!({"pid": after.pid, "version": after.version});
        happened.push(Happened::normal(Kind::ProxyStarted, "proxy", message).with(details));
    }
    let (restarts, known) = same_starter.map_or((after.restarts, None), |b| (b.restarts, serving(b)));
    if after.restarts > restarts {
        let ended = after.last_exit.as_deref().unwrap_or("for a reason that is not known");
        let message =
            format!("a worker died ({ended}) and was started again; {} times so far", after.restarts);
        let details = json!({"restarts": after.restarts, "lastExit": after.last_exit});
        happened.push(Happened::warning(Kind::WorkerRestarted, "proxy", message).with(details));
    }
    if let Some(worker) = serving(after)
        && known.is_none_or(|known| known.pid != worker.pid)
    {
        let version = worker.version.as_deref().unwrap_or("unknown");
        let message =
            format!("worker {} serves (generation {}, version {version})", worker.pid, worker.generation);
        let details = json!({
            "pid": worker.pid, "generation": worker.generation, "version": worker.version,
            "binary": worker.binary,
        });
        happened.push(Happened::normal(Kind::WorkerStarted, "proxy", message).with(details));
    }
    happened
}

#[cfg(test)]
mod tests;
