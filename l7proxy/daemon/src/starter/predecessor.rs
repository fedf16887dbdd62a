//! Taking the place of a starter that runs: the other side of [`super::hand_over`].

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, bail};
use mesh_l7proxy_wire::{Estate, Inheritance, OpenListener, StarterClient, WireError, verify_sealed};
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags};
use tracing::{info, warn};

use super::requests::Stored;
use super::run_dir::RunDirectory;
use super::timespec;
use crate::args::StarterOptions;

/// How long until a starter that hands nothing over is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// A starter that goes on serving until we do.
#[derive(Debug)]
pub(super) struct Predecessor(StarterClient);

impl Predecessor {
    /// Says that we serve.
    ///
    /// # Errors
    /// When it did not wait that long, and serves on.
    pub(super) fn replace(mut self) -> Result<(), WireError> {
        match self.0.taken_over() {
            // Who is gone has let go too.
            Err(WireError::Closed { .. }) => Ok(()),
            Err(WireError::Io { source, .. })
                if matches!(source.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                Ok(())
            }
            other => other,
        }
    }
}

/// What it left, besides the run directory.
#[derive(Debug)]
pub(super) struct Inherited {
    pub(super) predecessor: Predecessor,
    pub(super) estate: Estate,
    pub(super) listeners: Vec<OpenListener>,
    pub(super) stored: Option<Stored>,
}

/// The run directory, once nobody has it or who has it hands it over; `None` when a signal came before.
///
/// # Errors
/// When it cannot be used, or another starter runs with it and we are not to take its place.
pub(super) fn open(
    options: &StarterOptions,
    signals: &SignalFd,
) -> anyhow::Result<Option<(RunDirectory, Option<Inherited>)>> {
    let mut is_told = false;
    loop {
        if let Some(directory) = RunDirectory::open(options)? {
            return Ok(Some((directory, None)));
        }
        if !options.take_over {
            let lock = options.run.lock_file();
            bail!(
                "another starter runs with this run directory (it locks {}); stop it with `l7proxy stop`, or \
                 take its place with --take-over",
                lock.display()
            );
        }
        match inherit(options) {
            Ok((directory, inherited)) => {
                info!(listeners = inherited.listeners.len(), "taking over from another starter");
                return Ok(Some((directory, Some(inherited))));
            }
            Err(error) if !is_told => {
                is_told = true;
                warn!("the starter that runs hands nothing over, and is asked again: {error:#}");
            }
            Err(_) => {}
        }
        let mut polled = [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        if rustix::event::poll(&mut polled, Some(&timespec(AGAIN))).context("poll failed")? > 0 {
            return Ok(None);
        }
    }
}

fn inherit(options: &StarterOptions) -> anyhow::Result<(RunDirectory, Inherited)> {
    let mut client = StarterClient::connect(&options.run.starter_socket())?;
    let Inheritance { estate, lock, control, admin, stored } = client.hand_over()?;
    let stored = match stored {
        Some(memory) => Some(Stored { bytes: verify_sealed(memory.as_fd())?, memory }),
        None => None,
    };
    let listeners = client.listeners()?;
    let directory = RunDirectory::inherit(options, lock, control, admin);
    Ok((directory, Inherited { predecessor: Predecessor(client), estate, listeners, stored }))
}
