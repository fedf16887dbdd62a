//! A load assignment in the form that picks need.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
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
    /// Those to use.
    schedules: Schedules,
    /// Positions in `all` of those to use, each once.
    usable: Vec<u32>,
    /// All of them, used under panic.
    panic_schedules: Schedules,
}

/// Positions in `Endpoints::all`, each as often as its weight says, well mixed.
#[derive(Debug, Default)]
struct Schedules {
    any: Vec<u32>,
    /// Those of one family alone; empty unless there are endpoints of both.
    v4: Vec<u32>,
    v6: Vec<u32>,
}

impl Schedules {
    fn new(all: &[Arc<Endpoint>], members: &[u32]) -> Self {
        let (v4, v6): (Vec<u32>, Vec<u32>) =
            members.iter().partition(|member| all[**member as usize].address.is_ipv4());
        let any = schedule(all, members);
        if v4.is_empty() || v6.is_empty() {
            return Self { any, ..Self::default() };
        }
        Self { any, v4: schedule(all, &v4), v6: schedule(all, &v6) }
    }

    fn of(&self, source: Option<IpAddr>) -> &[u32] {
        let preferred = match source {
            Some(IpAddr::V4(_)) => &self.v4,
            Some(IpAddr::V6(_)) => &self.v6,
            None => &self.any,
        };
        if preferred.is_empty() { &self.any } else { preferred }
    }
}

impl Endpoints {
    pub(crate) fn new(all: Vec<Arc<Endpoint>>) -> Self {
        let usable = usable(&all);
        let everyone: Vec<u32> = (0..all.len() as u32).collect();
        let (schedules, panic_schedules) = (Schedules::new(&all, &usable), Schedules::new(&all, &everyone));
        Self { schedules, panic_schedules, usable, all }
    }

    /// All endpoints, usable or not.
    pub fn all(&self) -> &[Arc<Endpoint>] {
        &self.all
    }

    /// One of the same family as `source`, where there is one.
    pub(super) fn pick(
        &self,
        settings: &ClusterSettings,
        turn: &Cell<u32>,
        source: Option<IpAddr>,
    ) -> Option<&Arc<Endpoint>> {
        let panic = self.usable.len() * 100 < self.all.len() * settings.panic_percent as usize;
        let schedules = if panic { &self.panic_schedules } else { &self.schedules };
        let schedule = schedules.of(source);
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
