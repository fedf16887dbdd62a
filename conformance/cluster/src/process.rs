//! Processes of a cluster: started in sessions of their own, logged, and known again later.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use mesh_testkit::wait;
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;

/// Joins cgroups and becomes the program: `sh -c JOIN sh DOOR... -- PROGRAM ARGUMENT...`.
const JOIN: &str = r#"while [ "$1" != -- ]; do echo $$ > "$1" || exit 126; shift; done; shift; exec "$@""#;

/// Asking starts a program: a machine that is busy starting a cluster is not to be busier by questions.
pub(crate) const BETWEEN_QUESTIONS: Duration = Duration::from_millis(200);

/// A process that was started: its id and when it began, which together are no other's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// What it runs.
    pub name: String,
    /// Process id.
    pub id: u32,
    /// When it began, in the kernel's ticks since it started.
    pub began: u64,
}

impl Process {
    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        began(self.id) == Some(self.began)
    }
}

/// Where processes are started, and the records of them kept.
#[derive(Clone, Debug)]
pub struct Place {
    /// Their cgroup.
    pub cgroup: Cgroup,
    /// The file of a network namespace that they enter.
    pub network: Option<PathBuf>,
    /// A process whose mounts and host name they share.
    pub mounts_of: Option<u32>,
    /// Folder of their logs.
    pub logs: PathBuf,
    /// Folder of their records.
    pub records: PathBuf,
}

impl Place {
    /// A command that runs there, in the foreground.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        if self.network.is_some() || self.mounts_of.is_some() {
            command = Command::new("nsenter");
            if let Some(network) = &self.network {
                command.arg(format!("--net={}", network.display()));
            }
            if let Some(id) = self.mounts_of {
                command.arg(format!("--mount=/proc/{id}/ns/mnt")).arg(format!("--uts=/proc/{id}/ns/uts"));
            }
            command.args(["--", "sh"]);
        }
        command.args(["-c", JOIN, "sh"]).args(self.cgroup.doors()).arg("--").arg(program);
        command
    }

    /// What is recorded of a process.
    pub fn recorded(&self, name: &str) -> Option<Process> {
        let text = fs::read(self.records.join(name)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Starts a program in a session of its own, unless it runs already, recorded or not. It outlives this
    /// process. Returns whether it was started.
    ///
    /// # Errors
    /// It cannot be started or recorded.
    pub fn start(&self, name: &str, program: &Path, arguments: &[String]) -> anyhow::Result<bool> {
        if self.recorded(name).is_some_and(|process| process.runs()) {
            return Ok(false);
        }
        if let Some(id) = self.unrecorded(program) {
            self.record(name, id)?;
            return Ok(false);
        }
        let inner = self.command(program);
        let mut command = Command::new("setsid");
        command.arg(inner.get_program()).args(inner.get_args()).args(arguments);
        let log = self.log(name);
        let log = File::options().create(true).append(true).mode(0o600).open(&log);
        let log = log.with_context(|| format!("cannot write the log of {name}"))?;
        // What a program drops where it runs goes with the cluster.
        command.current_dir(self.logs.parent().unwrap_or(&self.logs));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        // None of the wrappers forks: the id stays that of the program.
        self.record(name, child.id())?;
        Ok(true)
    }

    /// Fails, with the end of its log, when a process that was started has ended.
    ///
    /// # Errors
    /// It has ended.
    pub fn check(&self, name: &str) -> anyhow::Result<()> {
        if self.recorded(name).is_some_and(|process| process.runs()) {
            return Ok(());
        }
        let text = fs::read_to_string(self.log(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(12)..].join("\n");
        bail!("{name} has ended; the end of {}:\n{end}", self.log(name).display())
    }

    fn record(&self, name: &str, id: u32) -> anyhow::Result<()> {
        let Some(began) = began(id) else { bail!("{name} ended at once: see its log") };
        let record = serde_json::to_vec(&Process { name: name.to_owned(), id, began })?;
        fs::write(self.records.join(name), record).with_context(|| format!("cannot record {name}"))
    }

    /// A process of the cgroup that runs a program: one whose starter was killed before it could record it. A
    /// second beside it would fight over sockets and files.
    fn unrecorded(&self, program: &Path) -> Option<u32> {
        let program = fs::canonicalize(program).ok()?;
        let runs = |id: &u32| fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|path| path == program);
        self.cgroup.processes().into_iter().find(runs)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }
}

/// Asks until the answer is there, a few times a second; fails at once when what is asked has ended.
pub(crate) fn wait_while<T>(
    alive: impl Fn() -> anyhow::Result<()>,
    what: &str,
    within: Duration,
    mut ask: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    wait::until(what, within, || match alive() {
        Err(ended) => Ok(Err(ended)),
        Ok(()) => ask().map(Ok).inspect_err(|_| std::thread::sleep(BETWEEN_QUESTIONS)),
    })?
}

/// When a process began; `None` when it has ended, be it a zombie.
fn began(id: u32) -> Option<u64> {
    parse_began(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

/// Field 22 of proc(5)'s stat. The name in field 2 may have spaces and brackets: what counts begins after it.
fn parse_began(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_again_by_when_it_began() {
        let id = std::process::id();
        let began = began(id).expect("this process runs");
        let own = Process { name: "test".to_owned(), id, began };
        assert!(own.runs());
        assert!(!Process { began: began + 1, ..own }.runs(), "another with the same id is another");
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields_and_a_zombie_has_ended() {
        let fields = "1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        assert_eq!(parse_began(&format!("7 (a) b)) S {fields}")), Some(4711));
        assert_eq!(parse_began(&format!("7 (a) Z {fields}")), None);
    }
}
