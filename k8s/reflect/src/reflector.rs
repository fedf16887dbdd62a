//! One watch, for as long as the process runs: everything once, then what changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use kube::client::Body;
use mesh_k8s_api::Kind;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use crate::backoff::Backoff;
use crate::body::{Lines, whole};
use crate::connection::{Connection, Current};
use crate::failure::{Cause, Failure};
use crate::item::Item;
use crate::keeper::Message;
use crate::scope::Scope;
use crate::start::Timing;
use crate::wire::{Event, EventKind, List};

/// Longest event: an object is at most 1.5 MiB in etcd, and JSON of it some more.
const EVENT: usize = 16 << 20;
/// Longest page of a list.
const PAGE: usize = 256 << 20;
/// A watch that ends sooner than this is not asked for anew at once.
const SHORT: Duration = Duration::from_secs(1);
/// A watch that was let in and then is told no error for so long works.
const SETTLES: Duration = Duration::from_millis(200);
/// So many answers in a row that cannot be read, and everything is read again.
const BROKEN_IN_A_ROW: u32 = 3;

/// What all reflectors of a process share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// To the server.
    pub(crate) connection: Connection,
    /// Somebody got through to a server that did not answer before.
    pub(crate) recovered: Notify,
    /// A kind came to be that was absent.
    pub(crate) installed: Notify,
    /// How long things take.
    pub(crate) timing: Timing,
    /// Whether statuses are kept.
    pub(crate) keep_status: bool,
}

/// The task of one watch.
pub(crate) struct Reflector {
    scope: Scope,
    /// Its number in the messages.
    index: usize,
    shared: Arc<Shared>,
    keeper: mpsc::Sender<(usize, Message)>,
    /// Where in the history to go on; `None`: read everything.
    position: Option<String>,
    /// Index of the API version among those of the kind.
    version: usize,
    /// How many versions in a row were said not to be there.
    missing: usize,
    /// Whether the kind was there before.
    was_there: bool,
    /// The history was too old, and nothing has come since.
    expired: bool,
    /// Whether the server sends lists as streams.
    streams: bool,
    broken: u32,
    /// Of the last failure, until a watch works again or the server, not yet ready, answers at least.
    waits_for: Option<Cause>,
}

/// The keeper is gone: the process ends.
struct Stopped;

/// Why a watch did not go on.
enum Interrupted {
    Stopped,
    Failed(Failure),
}

impl From<Failure> for Interrupted {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Stopped> for Interrupted {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl Reflector {
    pub(crate) fn new(
        scope: Scope,
        index: usize,
        shared: Arc<Shared>,
        keeper: mpsc::Sender<(usize, Message)>,
    ) -> Self {
        Self {
            scope,
            index,
            shared,
            keeper,
            position: None,
            version: 0,
            missing: 0,
            was_there: false,
            expired: false,
            streams: true,
            broken: 0,
            waits_for: None,
        }
    }

    /// Until the keeper is gone.
    pub(crate) async fn run(mut self) {
        let timing = self.shared.timing;
        let mut backoff = Backoff::new(timing.first_retry, timing.longest_retry);
        let mut absent = Backoff::new(timing.absent_first, timing.absent_longest);
        let mut is_failing = false;
        loop {
            let current = self.shared.connection.current();
            let began = Instant::now();
            let failure = match self.follow(&current, &mut is_failing).await {
                Ok(()) => {
                    // A server that ends every watch at once is not asked in a loop.
                    match began.elapsed() < SHORT {
                        true => sleep(backoff.next()).await,
                        false => {
                            backoff.reset();
                            self.waits_for = None;
                        }
                    }
                    continue;
                }
                Err(Interrupted::Stopped) => return,
                Err(Interrupted::Failed(failure)) => failure,
            };
            // What worked for a while does not wait for what happened before that.
            if began.elapsed() > timing.longest_retry {
                backoff.reset();
                self.waits_for = None;
            }
            let outcome = match failure.cause {
                Cause::Absent if self.scope.kind.is_custom() => self.look_for_the_kind(&mut absent).await,
                // Once is the course of things; a server that forgets what it has just told is in trouble.
                Cause::Expired if !std::mem::replace(&mut self.expired, true) => {
                    tracing::info!(scope = %self.scope, "the history is gone: everything is read again");
                    self.position = None;
                    // When the server compacts, it does so for the watches of all nodes.
                    sleep(timing.relist_within.mul_f64(fastrand::f64())).await;
                    Ok(())
                }
                cause => {
                    is_failing = true;
                    if cause == Cause::Expired {
                        self.position = None;
                    }
                    self.recover(&current, failure, &mut backoff).await
                }
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    /// The next version of the kind, or, when none is served, a wait until it may be. Of a kind that was there all
    /// versions are asked for twice before its objects are given up: one answer of a server that is just being
    /// replaced, or a change from one version to another, is not the kind's end.
    async fn look_for_the_kind(&mut self, absent: &mut Backoff) -> Result<(), Stopped> {
        self.position = None;
        let versions = self.scope.kind.versions().len();
        self.version = (self.version + 1) % versions;
        self.missing += 1;
        if !self.missing.is_multiple_of(versions) {
            return Ok(());
        }
        self.version = 0;
        if !self.was_there || self.missing > versions {
            self.missing = 0;
            self.was_there = false;
            self.tell(Message::Absent).await?;
        }
        let wait = absent.next();
        tokio::select! {
            () = sleep(wait) => {}
            () = self.shared.installed.notified() => {}
            () = self.keeper.closed() => return Err(Stopped),
        }
        Ok(())
    }

    async fn recover(
        &mut self,
        current: &Current,
        failure: Failure,
        backoff: &mut Backoff,
    ) -> Result<(), Stopped> {
        tracing::debug!(scope = %self.scope, failure = failure.message, "a watch failed");
        // A server that was away and answers, if only that it has just begun, is soon ready. Once an outage, lest two
        // servers that fail in two ways are asked without end.
        match (self.waits_for, failure.cause) {
            (None, cause) => self.waits_for = Some(cause),
            (Some(Cause::Unreachable), Cause::Busy) => {
                self.waits_for = Some(Cause::Busy);
                backoff.reset();
            }
            _ => {}
        }
        match failure.cause {
            Cause::Broken => self.broken += 1,
            // Neither a list that is streamed nor one in pages may be known to a server.
            Cause::Refused if self.position.is_none() => self.streams = !self.streams,
            _ => {}
        }
        if self.broken >= BROKEN_IN_A_ROW {
            self.broken = 0;
            self.position = None;
        }
        let mut failure = failure;
        if failure.asks_for_another_connection()
            && let Err(error) = self.shared.connection.renew(current).await
        {
            failure = Failure::of_access(&error);
        }
        let is_of_server = failure.is_of_server();
        let asked = failure.retry_after.unwrap_or_default();
        self.tell(Message::Failed(failure)).await?;
        let wait = backoff.next().max(asked.mul_f64(fastrand::f64().mul_add(0.1, 1.0)));
        tokio::select! {
            () = sleep(wait) => {}
            () = self.shared.recovered.notified(), if is_of_server && asked.is_zero() => backoff.reset(),
            () = self.keeper.closed() => return Err(Stopped),
        }
        Ok(())
    }

    /// Reads everything if there is no position, then follows what changes until the server ends the watch, as it
    /// does every few minutes.
    async fn follow(&mut self, current: &Current, is_failing: &mut bool) -> Result<(), Interrupted> {
        if self.position.is_none() && !self.streams {
            self.list(current).await?;
        }
        let timing = self.shared.timing;
        // Watches that began together must not end together.
        let seconds = timing.watch_seconds - fastrand::u32(0..=timing.watch_seconds / 5);
        let version = self.scope.kind.versions()[self.version];
        let request = self.scope.watch(version, self.position.as_deref(), seconds)?;
        let response = self.ask(current, request, "watch").await?;
        // An error may still follow, as the first event: whoever waits for this server must not be woken by that.
        let mut works = self.position.is_none();
        let mut lines = Lines::new(response, EVENT);
        let mut listed = self.position.is_none().then(Vec::new);
        loop {
            // A server that knows no streamed lists takes the request for one without an end to the list.
            let quiet = match listed {
                Some(_) => timing.answer_within,
                None if !works => SETTLES,
                None => Duration::from_secs(u64::from(seconds)) + timing.answer_within,
            };
            let Ok(line) = timeout(quiet, lines.next()).await else {
                if !std::mem::replace(&mut works, true) {
                    self.got_through(is_failing).await?;
                    continue;
                }
                if listed.is_some() {
                    self.streams = false;
                    return Ok(());
                }
                let message = "the watch was silent beyond its end";
                return Err(Failure::new(Cause::Unreachable, message, "nothing, unless it lasts").into());
            };
            let line = match line {
                Ok(Some(line)) => line,
                Ok(None) => break,
                // Connections are cut now and then: whether that is worth a word, the next request tells.
                Err(failure) if failure.cause == Cause::Unreachable && listed.is_none() => break,
                Err(failure) => return Err(failure.into()),
            };
            if line.is_empty() {
                continue;
            }
            let event: Event = serde_json::from_slice(line).map_err(|error| {
                Failure::broken(format!("{}: an event cannot be read: {error}", self.scope))
            })?;
            self.event(event, &mut listed, is_failing).await?;
            if !std::mem::replace(&mut works, true) {
                self.got_through(is_failing).await?;
            }
        }
        if listed.is_some() {
            let message = format!("the list of {} was cut before its end", self.scope);
            return Err(Failure::new(Cause::Unreachable, message, "nothing, unless it lasts").into());
        }
        Ok(())
    }

    /// `listed` are the objects so far while the list is streamed.
    async fn event(
        &mut self,
        event: Event,
        listed: &mut Option<Vec<Item>>,
        is_failing: &mut bool,
    ) -> Result<(), Interrupted> {
        if event.kind == EventKind::Error {
            let code = event.object["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
            let said = event.object["message"].as_str().unwrap_or_default();
            return Err(Failure::of_status(code, said, &format!("watch {}", self.scope)).into());
        }
        self.expired = false;
        let position = Item::version_of(&event.object).map(str::to_owned);
        if event.kind == EventKind::Bookmark {
            let ends_list = event.ends_list();
            if ends_list && let Some(items) = listed.take() {
                self.got_through(is_failing).await?;
                self.tell(Message::Everything(items)).await?;
            }
            if listed.is_none() && position.is_some() {
                self.position = position;
            }
            return Ok(());
        }
        self.broken = 0;
        if event.kind == EventKind::Deleted {
            let name = Item::name_of(&event.object);
            match listed {
                Some(items) => items.retain(|item| item.name != name),
                None => self.tell(Message::Gone(name)).await?,
            }
        } else {
            let item = self.item(event.object);
            match listed {
                Some(items) => items.push(item),
                None => self.tell(Message::Changed(Box::new(item))).await?,
            }
        }
        // While the list is streamed there is no position to go on from: an interruption begins it anew.
        if listed.is_none() && position.is_some() {
            self.position = position;
        }
        Ok(())
    }

    /// Everything, page by page.
    async fn list(&mut self, current: &Current) -> Result<(), Interrupted> {
        let version = self.scope.kind.versions()[self.version];
        let mut items = Vec::new();
        let mut from = None;
        let position = loop {
            let response = self.ask(current, self.scope.list(version, from)?, "list").await?;
            let body = timeout(self.shared.timing.answer_within.saturating_mul(6), whole(response, PAGE))
                .await
                .map_err(|_| {
                    Failure::new(Cause::Unreachable, "a list did not come in time", "look at its load")
                })??;
            let page: List = serde_json::from_slice(&body).map_err(|error| {
                Failure::broken(format!("the list of {} cannot be read: {error}", self.scope))
            })?;
            items.extend(page.items.into_iter().flatten().map(|value| self.item(value)));
            from = page.metadata.more.filter(|more| !more.is_empty());
            if from.is_none() {
                break page.metadata.resource_version.filter(|version| !version.is_empty());
            }
        };
        let missing = || Failure::broken(format!("the list of {} has no resourceVersion", self.scope));
        self.position = Some(position.ok_or_else(missing)?);
        self.tell(Message::Everything(items)).await?;
        Ok(())
    }

    fn item(&self, value: Value) -> Item {
        let kind: Kind = self.scope.kind;
        let version = self.shared.keep_status.then_some(kind.versions()[self.version]);
        Item::read(kind, value, version)
    }

    async fn ask(
        &self,
        current: &Current,
        request: Request<Vec<u8>>,
        verb: &str,
    ) -> Result<Response<Body>, Failure> {
        current.ask(request, self.shared.timing.answer_within, &format!("{verb} {}", self.scope)).await
    }

    /// The server answers as it should: whoever waits for it can go on.
    async fn got_through(&mut self, is_failing: &mut bool) -> Result<(), Stopped> {
        self.missing = 0;
        self.was_there = true;
        if std::mem::take(is_failing) {
            self.shared.recovered.notify_waiters();
        }
        self.tell(Message::Live).await
    }

    async fn tell(&self, message: Message) -> Result<(), Stopped> {
        self.keeper.send((self.index, message)).await.map_err(|_| Stopped)
    }
}
