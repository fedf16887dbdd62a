//! Faults under traffic: what breaks, and what the traffic must not notice.
//!
//! Each scenario breaks something in a running product while an independent client (`testkit::traffic`) goes on
//! asking, and holds what that client counted against a bound. The gate runs each for seconds, `cargo xtask
//! soak` for as long as it is told.

mod agent;
mod away;
mod bodies;
mod cleanup;
mod descriptors;
mod disk;
mod maps;
mod starter;
mod upgrade;
mod worker;
mod world;

use std::path::PathBuf;
use std::time::Duration;

/// What scenarios need from outside.
#[derive(Clone, Debug)]
pub struct Rig {
    /// Folder of the product's programs.
    pub programs: PathBuf,
    /// The compiled kernel programs.
    pub bpf_object: PathBuf,
    /// Manifests of the quickstart.
    pub manifests: PathBuf,
    /// Prefix of everything that has a name on the machine.
    pub prefix: String,
}

/// How long a scenario goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// As short as it means something: at most a minute.
    Gate,
    /// About as long as this.
    Soak(Duration),
}

impl Length {
    /// So many rounds in the gate; as many more as the time allows when one takes `each`.
    fn rounds(self, gate: usize, each: Duration) -> usize {
        match self {
            Self::Gate => gate,
            Self::Soak(time) => {
                gate.max(usize::try_from(time.as_millis() / each.as_millis().max(1)).unwrap_or(gate))
            }
        }
    }

    /// This long in the gate.
    fn time(self, gate: Duration) -> Duration {
        match self {
            Self::Gate => gate,
            Self::Soak(time) => time.max(gate),
        }
    }
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What breaks, and what must not.
    pub about: &'static str,
    /// Runs it: the figures, or what went wrong.
    pub run: fn(&Rig, Length) -> anyhow::Result<String>,
}

/// All faults.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "agent-killed",
        about: "agent killed at random moments while manifests change: no connection lost, none refused for \
                more than 1 s, nothing pruned early",
        run: agent::killed_at_random_moments,
    },
    Scenario {
        name: "agent-away",
        about: "no agent (20 s in the gate, 5 minutes and more here), the worker killed meanwhile: the last good \
                configuration serves on",
        run: away::agent_is_away,
    },
    Scenario {
        name: "worker-killed",
        about: "worker killed again and again: served again within 2 s, waiting connections are answered",
        run: worker::killed_under_traffic,
    },
    Scenario {
        name: "starter-killed",
        about: "starter killed: the agent starts another, nothing hangs",
        run: starter::killed_under_traffic,
    },
    Scenario {
        name: "proxy-upgraded",
        about: "proxy binary replaced: at least 35,000 requests over ten replacements, none lost",
        run: upgrade::binary_replaced_under_traffic,
    },
    Scenario {
        name: "maps-full",
        about: "a BPF map full: the last good state serves, the error names map, limit and fix",
        run: maps::full,
    },
    Scenario { name: "disk-full", about: "no space in the run directory: nothing dies", run: disk::full },
    Scenario {
        name: "descriptors-exhausted",
        about: "no file descriptors: accepting pauses without spinning, connections live, it recovers",
        run: descriptors::exhausted,
    },
    Scenario {
        name: "backend-dies",
        about: "a backend dies in mid-body: the client sees a short body, never a whole one",
        run: bodies::backend_dies_in_mid_body,
    },
    Scenario {
        name: "cleaned-up",
        about: "everything killed, then `mesh-agent cleanup`: nothing is left",
        run: cleanup::after_a_crash,
    },
];

/// The scenario of a name.
pub fn scenario(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
