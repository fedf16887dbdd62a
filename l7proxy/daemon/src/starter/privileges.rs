//! From whatever the starter was started with down to CAP_NET_RAW.

use std::io;
use std::path::Path;

use anyhow::Context;
use nix::unistd::{Gid, Uid};
use rustix::process::{DumpableBehavior, Resource};
use rustix::thread::CapabilitySet;
use tracing::info;

use crate::capability;

/// Lets go of everything but CAP_NET_RAW, which transparent sockets and `SO_MARK` need.
///
/// Called after the sockets in the run directory are bound and before anything is read from them.
///
/// # Errors
/// When `--user` was given and we are not root, or the kernel refuses.
pub(super) fn reduce(user: Option<u32>) -> anyhow::Result<()> {
    raise_descriptor_limit();
    if let Some(user) = user {
        become_user(user).with_context(|| format!("cannot become user {user}; --user needs root"))?;
    }
    capability::keep_only(CapabilitySet::NET_RAW).context("cannot give up capabilities")?;
    // The order matters: no_new_privs last, so that a refusal above is one of the kernel's capability
    // rules and not of this flag.
    rustix::thread::set_no_new_privs(true).context("cannot set no_new_privs")?;
    // The configuration, keys included, is mapped by nobody else: no core dumps, no ptrace by the same user.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("cannot forbid core dumps")?;
    info!(capabilities = ?capability::effective_names()?, "privileges reduced");
    Ok(())
}

/// Gives a file in the run directory to the user that we are about to become.
pub(super) fn hand_over(path: &Path, user: Option<u32>) -> io::Result<()> {
    if let Some(user) = user {
        std::os::unix::fs::chown(path, Some(user), Some(user))?;
    }
    Ok(())
}

fn become_user(user: u32) -> io::Result<()> {
    rustix::thread::set_keep_capabilities(true)?;
    nix::unistd::setgroups(&[])?;
    nix::unistd::setgid(Gid::from_raw(user))?;
    nix::unistd::setuid(Uid::from_raw(user))?;
    Ok(())
}

/// A proxy needs two descriptors for each connection; the soft limit of 1024 is for `select`.
fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit on open files cannot be raised");
    }
}
