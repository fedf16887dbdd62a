//! The responses of a connection that are not out yet, and those whose client does not read.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::response::Sending;

/// The bodies under way on one connection: one at a time in HTTP/1, some in HTTP/2.
#[derive(Default)]
pub(crate) struct Unread {
    /// Those that have ended are taken out when others come, so that ending costs nothing.
    bodies: RefCell<Vec<Weak<Sending>>>,
    /// When they are looked at next.
    looked_at: Cell<Option<Instant>>,
    /// One has come that has to be looked at before that.
    sooner: Cell<bool>,
}

impl Unread {
    pub(super) fn add(&self, body: &Rc<Sending>) {
        let mut bodies = self.bodies.borrow_mut();
        while bodies.last().is_some_and(|last| last.strong_count() == 0) {
            bodies.pop();
        }
        if bodies.len() == bodies.capacity() {
            bodies.retain(|body| body.strong_count() > 0);
        }
        bodies.push(Rc::downgrade(body));
        if body.over_at().is_some_and(|over| self.looked_at.get().is_none_or(|planned| over < planned)) {
            self.sooner.set(true);
        }
    }

    /// When to look at them next, those that begin from now on included: at the latest after `idle`, which is
    /// what most of them may take.
    pub(crate) fn plan(&self, now: Instant, idle: Option<Duration>) -> Option<Instant> {
        let bodies = self.bodies.borrow();
        let stalls = bodies.iter().filter_map(Weak::upgrade).filter_map(|body| body.stalls_at(now));
        let next = stalls.chain(idle.map(|idle| now + idle)).min();
        self.looked_at.set(next);
        self.sooner.set(false);
        next
    }

    /// Whether the plan came too late for one that has begun since.
    pub(crate) fn has_sooner(&self) -> bool {
        self.sooner.get()
    }

    /// Ends those that their client does not take. Whether there were any.
    pub(crate) fn end_stalled(&self, now: Instant) -> bool {
        let mut ended = false;
        // What their end leads to may begin others.
        let bodies: Vec<Rc<Sending>> = self.bodies.borrow().iter().filter_map(Weak::upgrade).collect();
        for body in bodies {
            ended |= body.end_if_stalled(now);
        }
        ended
    }
}
