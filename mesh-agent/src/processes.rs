//! The proxy's processes: who serves, and how they do.

use mesh_l7proxy_wire::{StarterStatus, WorkerState, WorkerStatus};

use crate::health::PartHealth;

/// The newest worker that takes connections.
pub(crate) fn serving(status: &StarterStatus) -> Option<&WorkerStatus> {
    status.workers.iter().rev().find(|worker| worker.state == WorkerState::Serving)
}

/// Health of the processes.
pub(crate) fn health(status: Option<&StarterStatus>) -> PartHealth {
    const NAME: &str = "proxy processes";
    let Some(status) = status else {
        return PartHealth::degraded(
            NAME,
            "no starter answers",
            "see what the agent logged, and proxy.log in the run directory; `l7proxy starter` is started by the agent unless --start-proxy=false",
        );
    };
    let Some(worker) = serving(status) else {
        let ended = status.last_exit.as_deref().unwrap_or("none has ended yet");
        return PartHealth::degraded(
            NAME,
            format!("no worker serves (the last one: {ended})"),
            "see proxy.log in the run directory",
        );
    };
    let draining = status.workers.iter().filter(|worker| worker.state == WorkerState::Draining).count();
    let draining = if draining > 0 { format!(", {draining} draining") } else { String::new() };
    PartHealth::ok(NAME, format!("worker {} serves, {} restarts{draining}", worker.pid, status.restarts))
}

#[cfg(test)]
mod tests {
    use mesh_l7proxy_wire::{StarterStatus, WorkerState, WorkerStatus};

    use super::health;

    fn status(state: WorkerState) -> StarterStatus {
        let worker = WorkerStatus {
            pid: 7,
            generation: 1,
            state,
            version: None,
            binary: "/l7proxy".into(),
            uptime_s: 1,
        };
        StarterStatus {
            version: "0".to_owned(),
            pid: 6,
            instance: None,
            uptime_s: 1,
            worker_threads: 1,
            upstream_ports: None,
            workers: vec![worker],
            restarts: 2,
            last_exit: Some("signal 9".to_owned()),
            listeners: 0,
            stored_config_bytes: None,
            capabilities: Vec::new(),
        }
    }

    #[test]
    fn a_proxy_without_a_serving_worker_is_degraded_and_says_how_the_last_one_ended() {
        assert_eq!(health(None).state, "degraded");
        let starting = health(Some(&status(WorkerState::Starting)));
        assert_eq!(starting.state, "degraded");
        assert!(starting.detail.contains("signal 9"), "{}", starting.detail);
        let serving = health(Some(&status(WorkerState::Serving)));
        assert_eq!((serving.state, serving.detail.as_str()), ("ok", "worker 7 serves, 2 restarts"));
    }
}
