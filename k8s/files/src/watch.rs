//! The thread that keeps a folder's state up to date.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mesh_k8s_api::Severity;
use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RemoveKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

use crate::listing::{Concern, WatchedFolders};
use crate::pending::{Change, Pending, Timing};
use crate::problem::Problem;
use crate::state::{Folder, FolderState};

/// Events that may wait; more than that and everything is looked at instead.
const QUEUE: usize = 4096;

/// How often to look at everything where events are not to be had.
const RESCAN_WITHOUT_EVENTS: Duration = Duration::from_secs(1);

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// A folder, read with its subfolders, or one file.
    pub path: PathBuf,
    /// How long events are gathered.
    pub timing: Timing,
}

impl Config {
    /// `path` with the timing that fits people and tools.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), timing: Timing::default() }
    }
}

impl From<PathBuf> for Config {
    fn from(path: PathBuf) -> Self {
        Self::new(path)
    }
}

/// The thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the thread that watches {path} cannot be started")]
pub struct StartError {
    /// What was to be watched.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// A watched folder. Dropping it stops the thread and waits for it.
#[derive(Debug)]
pub struct Watcher {
    state: watch::Receiver<Arc<FolderState>>,
    messages: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Reads the folder once and then watches it on a thread named `manifests`. When this returns, the
    /// state holds what the folder holds; a folder that does not exist yet is a problem in the state, not
    /// an error.
    pub fn start(config: impl Into<Config>) -> Result<Self, StartError> {
        let config = config.into();
        let (messages, inbox) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicBool::new(false));
        let (mut worker, state) = Worker::new(config.clone(), messages.clone(), Arc::clone(&lost));
        let thread = std::thread::Builder::new()
            .name("manifests".to_owned())
            .spawn(move || worker.run(&inbox, &lost))
            .map_err(|source| StartError { path: config.path, source })?;
        Ok(Self { state, messages, thread: Some(thread) })
    }

    /// The newest state, and notice of the next one.
    pub fn state(&self) -> watch::Receiver<Arc<FolderState>> {
        self.state.clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // An error means that the thread is gone already.
        let _ = self.messages.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads a folder or file once, without watching it.
pub fn read_once(path: &Path) -> FolderState {
    let read_at = Instant::now();
    let mut folder = Folder::new(path.to_owned());
    folder.list();
    folder.read(&Default::default(), &Default::default());
    let objects = Arc::new(folder.objects().clone());
    FolderState { objects, problems: folder.problems(), revision: 1, read_at }
}

enum Message {
    Event(Instant, notify::Event),
    /// Events were lost.
    Look,
    Stop,
}

struct Worker {
    timing: Timing,
    folder: Folder,
    pending: Pending,
    events: Option<RecommendedWatcher>,
    watched: WatchedFolders,
    /// Why some events do not come.
    blind: Option<Problem>,
    root: PathBuf,
    next_rescan: Instant,
    published: (u64, Vec<Problem>),
    state: watch::Sender<Arc<FolderState>>,
}

impl Worker {
    fn new(
        config: Config,
        messages: SyncSender<Message>,
        lost: Arc<AtomicBool>,
    ) -> (Self, watch::Receiver<Arc<FolderState>>) {
        let read_at = Instant::now();
        let events = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let message = event.map_or(Message::Look, |event| Message::Event(Instant::now(), event));
            if messages.try_send(message).is_err() {
                lost.store(true, Ordering::Release);
            }
        });
        let blind = events.as_ref().err().map(|error| blind(&config.path, error));
        let empty = FolderState { objects: Arc::default(), problems: Vec::new(), revision: 0, read_at };
        let (state, receiver) = watch::channel(Arc::new(empty));
        let mut worker = Self {
            timing: config.timing,
            folder: Folder::new(config.path.clone()),
            pending: Pending::default(),
            events: events.ok(),
            watched: WatchedFolders::new(),
            blind,
            root: config.path,
            next_rescan: read_at,
            published: (0, Vec::new()),
            state,
        };
        worker.refresh(read_at);
        (worker, receiver)
    }

    fn run(&mut self, inbox: &Receiver<Message>, lost: &AtomicBool) {
        loop {
            let now = Instant::now();
            let due = self.pending.due().map_or(self.next_rescan, |due| due.min(self.next_rescan));
            if due <= now {
                self.refresh(now);
                continue;
            }
            match inbox.recv_timeout(due - now) {
                Ok(Message::Event(at, event)) => self.event(at, &event),
                Ok(Message::Look) => self.pending.structure(Change::Settled, Instant::now(), &self.timing),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if lost.swap(false, Ordering::AcqRel) {
                self.pending.structure(Change::Settled, Instant::now(), &self.timing);
            }
        }
    }

    fn event(&mut self, at: Instant, event: &notify::Event) {
        if event.need_rescan() {
            return self.pending.structure(Change::Settled, at, &self.timing);
        }
        for path in &event.paths {
            let Some(change) = change(&event.kind, path) else { continue };
            match self.folder.listing().concern(path) {
                Concern::Files(files) => {
                    for file in files {
                        self.pending.file(file, change, at, &self.timing);
                    }
                }
                // Writing to something near by does not change which files there are.
                Concern::Structure
                    if change != Change::Writing || matches!(event.kind, EventKind::Create(_)) =>
                {
                    self.pending.structure(change, at, &self.timing);
                }
                Concern::Structure | Concern::Nothing => {}
            }
        }
    }

    /// Reads what changed and publishes it.
    fn refresh(&mut self, now: Instant) {
        let batch = self.pending.take(now);
        // A folder that came to be may have got files before it was watched, so after watching it is listed
        // again, until nothing new turns up.
        for _ in 0..8 {
            self.folder.list();
            if !self.watch_folders() {
                break;
            }
        }
        if self.folder.read(&batch.named, &batch.unfinished) {
            self.pending.structure(Change::Settled, now, &self.timing);
        }
        let rescan = if self.blind.is_some() { RESCAN_WITHOUT_EVENTS } else { self.timing.rescan };
        self.next_rescan = now + rescan.min(self.timing.rescan);
        self.publish(batch.first.unwrap_or(now));
    }

    /// Watches the listed folders and no others. Returns whether there was a new one.
    fn watch_folders(&mut self) -> bool {
        let Some(events) = &mut self.events else { return false };
        let wanted = &self.folder.listing().folders;
        let stale: Vec<PathBuf> = self
            .watched
            .iter()
            .filter(|(path, id)| wanted.get(*path) != Some(*id))
            .map(|(path, _)| path.clone())
            .collect();
        for path in stale {
            self.watched.remove(&path);
            // The kernel has dropped the watch already where the folder is gone.
            let _ = events.unwatch(&path);
        }
        self.blind = None;
        let mut fresh = false;
        for (path, id) in wanted {
            if self.watched.contains_key(path) {
                continue;
            }
            match events.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path.clone(), *id);
                    fresh = true;
                }
                // A folder that went away since it was listed is no matter.
                Err(error) if path.exists() => self.blind = Some(blind(&self.root, &error)),
                Err(_) => {}
            }
        }
        fresh
    }

    fn publish(&mut self, read_at: Instant) {
        let mut problems = self.folder.problems();
        problems.extend(self.blind.clone());
        let version = self.folder.version();
        let (old_version, old_problems) = &self.published;
        let first = self.state.borrow().revision == 0;
        if !first && version == *old_version && problems == *old_problems {
            return;
        }
        for problem in problems.iter().filter(|problem| !old_problems.contains(problem)) {
            tracing::warn!(origin = %problem.file.display(), %problem, "manifest has a problem");
        }
        self.published = (version, problems.clone());
        let objects = Arc::new(self.folder.objects().clone());
        self.state.send_modify(|state| {
            let revision = state.revision + 1;
            *state = Arc::new(FolderState { objects, problems, revision, read_at });
        });
        let state = self.state.borrow();
        tracing::info!(
            revision = state.revision,
            objects = state.objects.len(),
            problems = state.problems.len(),
            "manifests read"
        );
    }
}

fn blind(root: &Path, error: &notify::Error) -> Problem {
    Problem {
        severity: Severity::Warning,
        ..Problem::of_file(
            root,
            format!("changes are found by looking once a second, because events cannot be had: {error}"),
            "raise fs.inotify.max_user_watches or fs.inotify.max_user_instances",
        )
    }
}

/// What an event says of a path; `None`: nothing that matters.
fn change(kind: &EventKind, path: &Path) -> Option<Change> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Change::Settled),
        EventKind::Access(_) => None,
        EventKind::Create(CreateKind::Folder) => Some(Change::Settled),
        // A link, symbolic or hard, is whole from the start; a file is opened and will be closed.
        EventKind::Create(_) => Some(if is_link(path) { Change::Settled } else { Change::Writing }),
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Some(Change::Removed),
        EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_)) => Some(Change::Settled),
        EventKind::Modify(_) => Some(Change::Writing),
        EventKind::Remove(RemoveKind::Folder | RemoveKind::File | RemoveKind::Any | RemoveKind::Other) => {
            Some(Change::Removed)
        }
        EventKind::Any | EventKind::Other => Some(Change::Settled),
    }
}

fn is_link(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink() || meta.nlink() > 1)
}
