//! A starter in a temporary run directory, and ways to look at it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mesh_l7proxy_wire::{StarterClient, StarterStatus, WorkerState, WorkerStatus};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

/// How long anything may take before a test gives up on it. Not a promise: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The binary under test.
pub(crate) const L7PROXY: &str = env!("CARGO_BIN_EXE_l7proxy");

/// A running starter. Dropped, it is killed, and its worker ends with it.
pub(crate) struct Proxy {
    pub(crate) folder: TempDir,
    starter: Child,
}

impl Proxy {
    /// Starts one with two data threads and waits until its worker serves.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let starter = spawn(folder.path(), arguments);
        let mut proxy = Self { folder, starter };
        proxy.wait_for_worker(|worker| worker.state == WorkerState::Serving);
        proxy
    }

    /// Starts another starter in the place of one that has ended.
    pub(crate) fn start_again(&mut self) {
        self.wait();
        self.starter = spawn(self.folder.path(), &[]);
        self.wait_for_worker(|worker| worker.state == WorkerState::Serving);
    }

    /// Starts another starter, waits until it answers in the place of this one, and returns the old one.
    pub(crate) fn succeed(&mut self, arguments: &[&str]) -> Child {
        let new = spawn(self.folder.path(), arguments);
        let pid = new.id();
        let old = std::mem::replace(&mut self.starter, new);
        let answers = poll(|| {
            let mut client = StarterClient::connect(&self.run_dir().join("starter.sock")).ok()?;
            client.status().ok().filter(|status| status.pid == pid)
        });
        assert!(answers.is_some(), "the successor does not answer\n{}", self.log());
        old
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.starter.id()
    }

    pub(crate) fn client(&self) -> StarterClient {
        StarterClient::connect(&self.run_dir().join("starter.sock")).unwrap()
    }

    pub(crate) fn status(&self) -> StarterStatus {
        self.client().status().unwrap()
    }

    /// Waits until the newest worker is as wanted.
    pub(crate) fn wait_for_worker(&mut self, wanted: impl Fn(&WorkerStatus) -> bool) -> WorkerStatus {
        let socket = self.run_dir().join("starter.sock");
        let mut last = None;
        let found = poll(|| {
            let status = StarterClient::connect(&socket).and_then(|mut client| client.status()).ok()?;
            last = status.workers.last().cloned();
            last.clone().filter(&wanted)
        });
        found.unwrap_or_else(|| panic!("no such worker, the last was {last:?}\n{}", self.log()))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Waits for the starter to end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let ended = poll(|| self.starter.try_wait().unwrap());
        ended.unwrap_or_else(|| panic!("the starter does not end\n{}", self.log()))
    }

    /// What both processes logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("proxy.log")).unwrap()
    }

    /// The access log.
    pub(crate) fn access_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("access.log")).unwrap()
    }

    /// A GET on the admin socket: status and body.
    pub(crate) fn admin(&self, path: &str) -> (u16, String) {
        self.admin_request("GET", path)
    }

    pub(crate) fn admin_request(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(self.run_dir().join("proxy-admin.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.starter.kill();
        let _ = self.starter.wait();
    }
}

fn spawn(folder: &Path, arguments: &[&str]) -> Child {
    let log = |name: &str| File::options().create(true).append(true).open(folder.join(name)).unwrap();
    command(&folder.join("run"))
        .args(arguments)
        .stdout(log("access.log"))
        .stderr(log("proxy.log"))
        .spawn()
        .unwrap()
}

/// `l7proxy starter` with this run directory.
pub(crate) fn command(run_dir: &Path) -> Command {
    let mut command = Command::new(L7PROXY);
    command
        .arg("starter")
        .arg("--run-dir")
        .arg(run_dir)
        .args(["--worker-threads", "2", "--drain-timeout", "10s"])
        .stdin(Stdio::null());
    command
}

/// Asks again and again, with pauses, until there is an answer or patience ends.
pub(crate) fn poll<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if begun.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Whether a process lives (a zombie does not).
pub(crate) fn is_alive(pid: u32) -> bool {
    proc_status(pid, "State").is_some_and(|state| !state.starts_with('Z'))
}

/// A line of `/proc/PID/status`.
pub(crate) fn proc_status(pid: u32, field: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}
