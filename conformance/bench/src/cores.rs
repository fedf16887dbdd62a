//! Which core runs what.

use std::io;
use std::process::{Child, Command};
use std::thread;

use rustix::thread::{CpuSet, sched_setaffinity};

/// The proxy under test, alone.
pub(crate) const PROXY: usize = 0;
/// Everything else.
pub(crate) const LOAD: usize = 1;

/// Binds the calling thread, and with it what it starts from now on.
///
/// # Errors
/// There is no such core.
pub(crate) fn bind(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Starts a program on a core. Its threads and children stay there.
///
/// # Errors
/// There is no such core or program.
pub(crate) fn spawn(core: usize, command: &mut Command) -> io::Result<Child> {
    // A child inherits from the thread that starts it, so a thread of its own leaves ours alone.
    thread::scope(|scope| {
        let started = scope.spawn(|| {
            bind(core)?;
            command.spawn()
        });
        started.join().unwrap_or_else(|_| Err(io::Error::other("the starting thread panicked")))
    })
}
