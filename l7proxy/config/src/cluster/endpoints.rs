//! A load assignment in the form that picks need.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Balancing, ClusterSettings};

/// The longest schedule for weighted turns; finer weights are rounded to it.
const LONGEST_SCHEDULE: usize = 4096;

/// What discovery says about an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Healthy, or not known to be otherwise.
    Healthy,
    /// Used only when no healthy one is left.
    Degraded,
    /// Gets no new requests.
    Unusable,
}

/// One endpoint. The request count lives on over updates of the assignment.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its name, for `auto_host_rewrite`. May be empty.
    pub hostname: Arc<str>,
    /// At least one.
    pub weight: u32,
    /// As discovery says.
    pub health: Health,
    pub(crate) priority: u32,
    /// Requests under way, over all threads.
    pub active: Arc<AtomicU32>,
}

/// The endpoints of one cluster.
#[derive(Debug, Default)]
pub struct Endpoints {
    all: Vec<Arc<Endpoint>>,
    /// Positions in `all` of those to use, each as often as its weight says, well mixed.
    schedule: Vec<u32>,
    /// Positions in `all` of those to use, each once.
    usable: Vec<u32>,
    /// The same for all of them, used under panic.
    panic_schedule: Vec<u32>,
}

impl Endpoints {
    pub(crate) fn new(all: Vec<Arc<Endpoint>>) -> Self {
        let usable = usable(&all);
        let everyone: Vec<u32> = (0..all.len() as u32).collect();
        Self { schedule: schedule(&all, &usable), panic_schedule: schedule(&all, &everyone), usable, all }
    }

    /// All endpoints, usable or not.
    pub fn all(&self) -> &[Arc<Endpoint>] {
        &self.all
    }

    pub(super) fn pick(&self, settings: &ClusterSettings, turn: &Cell<u32>) -> Option<&Arc<Endpoint>> {
        let panic = self.usable.len() * 100 < self.all.len() * settings.panic_percent as usize;
        let schedule = if panic { &self.panic_schedule } else { &self.schedule };
        let size = u32::try_from(schedule.len()).ok().filter(|size| *size > 0)?;
        let at = |slot: u32| &self.all[schedule[slot as usize] as usize];
        match settings.balancing {
            Balancing::RoundRobin => {
                let slot = turn.get();
                turn.set(slot.wrapping_add(1));
                Some(at(slot % size))
            }
            Balancing::Random => Some(at(crate::random::below(size))),
            Balancing::LeastRequest { choices } => {
                // Drawn by weight, compared by load: heavier endpoints are met more often.
                let mut best = at(crate::random::below(size));
                for _ in 1..choices {
                    let other = at(crate::random::below(size));
                    if other.active.load(Ordering::Relaxed) < best.active.load(Ordering::Relaxed) {
                        best = other;
                    }
                }
                Some(best)
            }
        }
    }
}

/// The healthy ones of the lowest priority that has any; else the degraded ones likewise.
fn usable(all: &[Arc<Endpoint>]) -> Vec<u32> {
    let best = all
        .iter()
        .filter(|endpoint| endpoint.health != Health::Unusable)
        .map(|endpoint| (endpoint.health, endpoint.priority))
        .min();
    let Some(best) = best else { return Vec::new() };
    (0..)
        .zip(all)
        .filter(|(_, endpoint)| (endpoint.health, endpoint.priority) == best)
        .map(|(i, _)| i)
        .collect()
}

/// Smooth weighted round robin written out once: each appears `weight` times, as far apart as possible.
fn schedule(all: &[Arc<Endpoint>], members: &[u32]) -> Vec<u32> {
    let weight = |member: &u32| u64::from(all[*member as usize].weight.max(1));
    let divisor = members.iter().map(weight).fold(0, greatest_common_divisor).max(1);
    let total: u64 = members.iter().map(|member| weight(member) / divisor).sum();
    if total == members.len() as u64 {
        return members.to_vec();
    }
    let longest = LONGEST_SCHEDULE.max(members.len()) as u64;
    let scaled: Vec<i64> = members
        .iter()
        .map(|member| {
            let share = weight(member) / divisor;
            if total <= longest { share as i64 } else { ((share * longest) / total).max(1) as i64 }
        })
        .collect();
    let total: i64 = scaled.iter().sum();
    let mut credit = vec![0_i64; members.len()];
    let mut out = Vec::with_capacity(total as usize);
    for _ in 0..total {
        let mut chosen = 0;
        for index in 0..members.len() {
            credit[index] += scaled[index];
            if credit[index] > credit[chosen] {
                chosen = index;
            }
        }
        credit[chosen] -= total;
        out.push(members[chosen]);
    }
    out
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
