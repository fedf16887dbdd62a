//! The one task that changes configuration, and the handle by which others ask it to.
//!
//! Changes come one after the other; nobody else touches the [`Controller`], so no lock is needed and
//! none is held while the starter answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use mesh_l7proxy_config::{NamedResource, Rejected, Saved};
use mesh_l7proxy_wire::sealed_memfd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::warn;

use super::controller::Controller;
use super::link::LinkHandle;
use super::xds::XdsState;

/// How long after a change the configuration is left with the starter: long enough for the rest of
/// the same push to arrive.
const STORE_AFTER: Duration = Duration::from_millis(200);

/// How long a configuration that refers to what has not come is kept from the starter.
const STORE_LATEST: Duration = Duration::from_secs(5);

/// All of it is copied each time, so a large one waits longer: this many times what the last copy took,
/// which bounds the share of a core that copying takes to a twentieth.
const STORE_SHARE: u32 = 20;

/// How long after the starter could not take the configuration it is offered again.
const OFFER_AGAIN: Duration = Duration::from_secs(2);

/// How often listeners without a socket are tried again: soon enough for a port that a dying process
/// is about to leave, and cheap, a question to the starter for each.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Orders under way. Whoever sends more waits.
const QUEUE: usize = 64;

/// One response of the xDS server.
struct Change {
    type_url: String,
    upserts: Vec<NamedResource>,
    removed: Vec<String>,
    done: std::sync::mpsc::SyncSender<Applied>,
}

/// What became of a change.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Refused; everything else serves.
    pub(super) rejected: Vec<Rejected>,
    /// By type, the names that what is held refers to.
    pub(super) wanted: BTreeMap<&'static str, BTreeSet<String>>,
}

type Inspection = Box<dyn FnOnce(&Controller) + Send>;

enum Order {
    Inspect(Inspection),
    StoreNow,
    Drain { deadline: Duration, done: oneshot::Sender<()> },
}

/// Sends orders to the control task. Cheap to clone.
#[derive(Clone)]
pub(super) struct ControlHandle {
    orders: mpsc::Sender<Order>,
}

impl ControlHandle {
    /// Reads something from the controller, between two changes.
    pub(super) async fn inspect<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Controller) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let inspection: Inspection = Box::new(move |controller| {
            // Whoever asked may have hung up.
            let _ = answer.send(read(controller));
        });
        self.orders.send(Order::Inspect(inspection)).await.ok()?;
        answered.await.ok()
    }

    /// Leaves the configuration with the starter at once.
    pub(super) async fn store_now(&self) {
        let _ = self.orders.send(Order::StoreNow).await;
    }

    /// Finishes all connections, at most until the deadline.
    pub(super) async fn drain(&self, deadline: Duration) {
        let (done, drained) = oneshot::channel();
        if self.orders.send(Order::Drain { deadline, done }).await.is_ok() {
            let _ = drained.await;
        }
    }
}

/// Hands changes to the control task; the xDS client's thread has the only one.
pub(super) struct ChangeHandle {
    changes: mpsc::Sender<Change>,
}

impl ChangeHandle {
    /// Applies one change and blocks the calling thread until it serves. `None` when the worker is
    /// about to end. Not for a thread that the control task itself runs on.
    pub(super) fn apply(
        &mut self,
        type_url: &str,
        upserts: Vec<NamedResource>,
        removed: Vec<String>,
    ) -> Option<Applied> {
        let (done, applied) = std::sync::mpsc::sync_channel(1);
        let change = Change { type_url: type_url.to_owned(), upserts, removed, done };
        // There is one caller and it waits for each answer, so the one slot is always free.
        self.changes.try_send(change).ok()?;
        applied.recv().ok()
    }
}

/// The task's state.
pub(super) struct ControlTask {
    controller: Controller,
    link: LinkHandle,
    orders: mpsc::Receiver<Order>,
    changes: mpsc::Receiver<Change>,
    store_at: Option<Instant>,
    store_after: Duration,
    /// The copy that is being made, one at a time, and how it went.
    storing: JoinSet<(Duration, io::Result<()>)>,
    incomplete_since: Option<Instant>,
}

impl ControlTask {
    pub(super) fn new(controller: Controller, link: LinkHandle) -> (Self, ControlHandle, ChangeHandle) {
        let (send_order, orders) = mpsc::channel(QUEUE);
        let (send_change, changes) = mpsc::channel(1);
        let task = Self {
            controller,
            link,
            orders,
            changes,
            store_at: None,
            store_after: STORE_AFTER,
            storing: JoinSet::new(),
            incomplete_since: None,
        };
        (task, ControlHandle { orders: send_order }, ChangeHandle { changes: send_change })
    }

    /// Runs until every [`ControlHandle`] is dropped.
    pub(super) async fn run(mut self, xds: XdsState) {
        let mut retry = tokio::time::interval(RETRY_EVERY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let store_at = self.store_at;
            // All of these may be dropped halfway: nothing has happened before they are ready.
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.carry_out(order).await,
                    None => return,
                },
                Some(change) = self.changes.recv() => self.change(change).await,
                () = async { tokio::time::sleep_until(store_at.unwrap_or_else(Instant::now)).await },
                    if store_at.is_some() && self.storing.is_empty() => self.store_when_complete(),
                Some(stored) = self.storing.join_next() => self.stored(stored.ok()),
                _ = retry.tick() => if self.controller.retry(xds.is_connected()).await {
                    self.store_soon();
                },
            }
        }
    }

    async fn carry_out(&mut self, order: Order) {
        match order {
            Order::Inspect(read) => read(&self.controller),
            Order::StoreNow => {
                self.finish_storing().await;
                self.store();
                self.finish_storing().await;
            }
            Order::Drain { deadline, done } => {
                self.controller.plane().drain(deadline).await;
                let _ = done.send(());
            }
        }
    }

    async fn change(&mut self, change: Change) {
        let rejected = self.controller.apply(&change.type_url, change.upserts, &change.removed).await;
        self.store_soon();
        // The xDS client may have gone meanwhile; what was applied stays applied.
        let _ = change.done.send(Applied { rejected, wanted: self.controller.wanted() });
    }

    fn store_soon(&mut self) {
        self.store_at.get_or_insert_with(|| Instant::now() + self.store_after);
    }

    /// Leaves the configuration with the starter, unless parts of it are still on their way: a successor would
    /// serve those that came and know nothing of the others.
    fn store_when_complete(&mut self) {
        // What was stored last is better than a change that stands still because its server has gone.
        let late = self.controller.store().outgoing().next().is_none()
            && self.incomplete_since.is_some_and(|since| since.elapsed() > STORE_LATEST);
        if !self.controller.store().is_complete() && !late {
            self.incomplete_since.get_or_insert_with(Instant::now);
            self.store_at = Some(Instant::now() + STORE_AFTER);
            return;
        }
        self.incomplete_since = None;
        self.store();
    }

    /// Begins to leave the last good configuration with the starter. Changes go on meanwhile.
    fn store(&mut self) {
        self.store_at = None;
        let (link, saved) = (self.link.clone(), self.controller.store().save());
        self.storing.spawn(async move {
            let begun = Instant::now();
            let stored = leave(&link, saved).await;
            (begun.elapsed(), stored)
        });
    }

    async fn finish_storing(&mut self) {
        while let Some(stored) = self.storing.join_next().await {
            self.stored(stored.ok());
        }
    }

    /// `None`: the copy was given up, because the runtime ends.
    fn stored(&mut self, stored: Option<(Duration, io::Result<()>)>) {
        let Some((took, stored)) = stored else { return };
        if let Err(error) = stored {
            warn!(%error, "the starter does not keep the configuration; it is offered again");
            self.store_at = Some(Instant::now() + OFFER_AGAIN);
        }
        self.store_after = STORE_AFTER.max(took * STORE_SHARE);
    }
}

/// Copies the configuration, on a thread for it, and hands the copy over.
async fn leave(link: &LinkHandle, saved: Saved) -> io::Result<()> {
    let copy =
        move || sealed_memfd("millrace-config", |file| saved.write(&mut GivingWay { file, written: 0 }));
    let memory = tokio::task::spawn_blocking(copy).await.map_err(io::Error::other)??;
    Ok(link.store_config(memory).await?)
}

/// Lets others have the core now and then: nobody waits for the copy, and traffic may share the core with it.
struct GivingWay<'a> {
    file: &'a mut File,
    /// Bytes since it last gave way.
    written: usize,
}

/// Some tens of microseconds.
const GIVE_WAY_AFTER: usize = 128 * 1024;

impl Write for GivingWay<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written;
        if self.written >= GIVE_WAY_AFTER {
            self.written = 0;
            std::thread::yield_now();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
