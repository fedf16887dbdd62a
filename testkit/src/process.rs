//! Child processes that end with their guard, and processes that stand still.

use std::io;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// A child that gets SIGTERM when the guard is dropped, and SIGKILL when it has not ended two seconds later.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    forgotten: bool,
}

impl Guard {
    /// Starts the command.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        Ok(Self { child: command.spawn()?, forgotten: false })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets it live on; somebody else ends it, by the id returned.
    pub fn forget(mut self) -> u32 {
        self.forgotten = true;
        self.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it the hard way and waits for it.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.forgotten || self.ended().is_some() {
            return;
        }
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let end = Instant::now() + Duration::from_secs(2);
        while self.ended().is_none() {
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Stops a process, and waits until each of its threads has stopped.
///
/// The kernel stops a process by way of one of its threads, which has to get its turn first: until then the
/// others go on, on a busy machine for milliseconds.
///
/// # Errors
/// It does not run, or does not stop within two seconds.
pub fn stand_still(process: u32) -> anyhow::Result<()> {
    kill(Pid::from_raw(i32::try_from(process)?), Signal::SIGSTOP)?;
    wait::until("each thread stops", Duration::from_secs(2), || {
        let threads = format!("/proc/{process}/task");
        for thread in std::fs::read_dir(&threads).with_context(|| format!("cannot read {threads}"))? {
            let status = std::fs::read_to_string(thread?.path().join("status"))?;
            let state = status.lines().find_map(|line| line.strip_prefix("State:")).context("no state")?;
            ensure!(state.trim_start().starts_with('T'), "a thread of process {process} is in state {state}");
        }
        Ok(())
    })
}
