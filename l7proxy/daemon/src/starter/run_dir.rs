//! The run directory: one starter in it, its sockets for their owner only.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::privileges::hand_over;
use crate::args::StarterOptions;

/// What the starter holds in its run directory.
#[derive(Debug)]
pub(super) struct RunDirectory {
    /// `starter.sock`: sequential packets, for the agent and the command line.
    pub(super) control: OwnedFd,
    /// `proxy-admin.sock`: a stream listener that the worker serves HTTP on. It is ours so that the
    /// worker needs no right to create a file, and so that it stays while workers come and go.
    admin: Option<OwnedFd>,
    sockets: [PathBuf; 2],
    /// Whether the sockets' files go when this is dropped: not while another starter has them too.
    is_ours: bool,
    /// Held for as long as we live: a second starter in this directory would fight for its sockets.
    lock: OwnedFd,
}

impl RunDirectory {
    /// Becomes the starter of this directory; `None` when there is one.
    pub(super) fn open(options: &StarterOptions) -> anyhow::Result<Option<Self>> {
        let folder = &options.run.run_dir;
        create(folder).with_context(|| format!("run directory {}", folder.display()))?;
        share(folder, options.user).with_context(|| format!("cannot share {}", folder.display()))?;
        let lock_file = options.run.lock_file();
        let Some(lock) = lock(&lock_file)? else { return Ok(None) };
        let sockets = paths(options);
        for path in &sockets {
            remove_stale(path).with_context(|| format!("cannot replace {}", path.display()))?;
        }
        // Whoever holds the lock is alone here, and the mask makes the sockets 0600 from the start.
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = bind(&sockets);
        rustix::process::umask(before);
        let (control, admin) = bound?;
        if options.user.is_some() {
            // For the group too, which is that user's alone: an agent without the right to pass over modes joins it.
            for path in &sockets {
                fs::set_permissions(path, Permissions::from_mode(0o660))
                    .with_context(|| format!("cannot share {}", path.display()))?;
            }
        }
        // The lock stays with whoever starts starters, who may have no right to open others' files.
        for path in &sockets {
            hand_over(path, options.user).with_context(|| format!("cannot give {} away", path.display()))?;
        }
        Ok(Some(Self { control, admin: Some(admin), sockets, is_ours: true, lock }))
    }

    /// What another starter holds, for as long as both do.
    pub(super) fn inherit(options: &StarterOptions, lock: OwnedFd, control: OwnedFd, admin: OwnedFd) -> Self {
        Self { control, admin: Some(admin), sockets: paths(options), is_ours: false, lock }
    }

    /// The other one has let go, or has not and goes on.
    pub(super) fn set_ours(&mut self, is_ours: bool) {
        self.is_ours = is_ours;
    }

    /// What a successor needs: see [`Self::inherit`]. None once the admin listener was retired.
    pub(super) fn estate(&self) -> Option<[BorrowedFd<'_>; 3]> {
        Some([self.lock.as_fd(), self.control.as_fd(), self.admin()?])
    }

    /// The admin listener, for a worker; none once it was retired.
    pub(super) fn admin(&self) -> Option<BorrowedFd<'_>> {
        self.admin.as_ref().map(AsFd::as_fd)
    }

    /// Lets readiness probes fail at once, rather than wait for a worker that will not come.
    pub(super) fn retire_admin(&mut self) {
        self.admin = None;
        if self.is_ours {
            // Gone already is as good.
            let _ = fs::remove_file(&self.sockets[1]);
        }
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        for path in self.sockets.iter().filter(|_| self.is_ours) {
            // Gone already is as good.
            let _ = fs::remove_file(path);
        }
    }
}

fn paths(options: &StarterOptions) -> [PathBuf; 2] {
    [options.run.starter_socket(), options.run.admin_socket()]
}

fn create(folder: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let metadata = fs::metadata(folder)?;
    let (owner, me) = (metadata.uid(), rustix::process::geteuid());
    if owner != me.as_raw() && !me.is_root() {
        bail!("belongs to user {owner}, not to us (user {}); choose another with --run-dir", me.as_raw());
    }
    let mode = metadata.permissions().mode();
    // A group may write where it can only replace its own files: see `share`.
    let shared = mode & 0o1002 == 0o1000;
    if mode & 0o022 != 0 && !shared {
        bail!("others may write to it; run `chmod 700 {}`", folder.display());
    }
    Ok(())
}

/// Lets the group of the user that we are about to become make sockets in our folder. It stays ours, and it is
/// sticky (as /tmp is): that user cannot remove or replace what others have there, the agent's socket above all.
fn share(folder: &Path, user: Option<u32>) -> io::Result<()> {
    let Some(user) = user else { return Ok(()) };
    std::os::unix::fs::chown(folder, None, Some(user))?;
    fs::set_permissions(folder, Permissions::from_mode(0o1770))
}

/// `None` when another starter has it.
fn lock(path: &Path) -> anyhow::Result<Option<OwnedFd>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file.into())),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn bind([control, admin]: &[PathBuf; 2]) -> anyhow::Result<(OwnedFd, OwnedFd)> {
    let context = |path: &Path| {
        format!("cannot listen on {} (a path of more than 107 bytes is too long)", path.display())
    };
    let bind_control = || -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(control.as_path())?)?;
        rustix::net::listen(&socket, 16)?;
        Ok(socket)
    };
    let control_socket = bind_control().with_context(|| context(control))?;
    let admin_socket = UnixListener::bind(admin).with_context(|| context(admin))?;
    admin_socket.set_nonblocking(true)?;
    Ok((control_socket, admin_socket.into()))
}
