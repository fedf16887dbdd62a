//! The unix socket: where it lies, who may use it, who is let in.

mod connection;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::{Stream, StreamExt};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_stream::wrappers::UnixListenerStream;

pub(super) use self::connection::Connection;

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The path has no folder or no file name.
    #[error("{path} cannot be a socket's path")]
    BadPath {
        /// The configured path.
        path: PathBuf,
    },
    /// Another process serves there.
    #[error("a server listens on {path} already; stop it or choose another run folder")]
    InUse {
        /// The configured path.
        path: PathBuf,
    },
    /// Something that is no socket lies there.
    #[error("{path} exists and is no socket; remove it or choose another run folder")]
    NotASocket {
        /// The configured path.
        path: PathBuf,
    },
    /// Others could put their own socket in place of ours.
    #[error("{folder} may be written by others (mode {mode:o}); chmod 700 it")]
    OpenFolder {
        /// The socket's folder.
        folder: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A system call failed.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// A bound socket; its file is removed on drop unless another one has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds a socket of mode 0600, owned by `owner` if given, in place of a stale one. A missing folder
/// is made with mode 0700.
///
/// The socket is bound under another name and renamed when its mode and owner are right, so at no
/// moment can anybody else connect, and clients that retry meet either the old file or the new one.
///
/// # Errors
/// Somebody serves there already, something else lies there, or the folder is open to others.
pub fn bind(path: &Path, owner: Option<u32>) -> Result<(UnixListener, SocketFile), ListenError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| ListenError::Io { action, path, source }
    };
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ListenError::BadPath { path: path.to_owned() });
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io("make", folder))?;
    let mode = fs::metadata(folder).map_err(io("look at", folder))?.permissions().mode() & 0o7777;
    // The sticky bit keeps others from replacing our file.
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        return Err(ListenError::OpenFolder { folder: folder.to_owned(), mode });
    }
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(ListenError::NotASocket { path: path.to_owned() });
        }
        // Refused means that nobody listens: the file is left over.
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(ListenError::InUse { path: path.to_owned() });
        }
        _ => {}
    }

    let mut fresh = name.to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = folder.join(fresh);
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(io("bind", &fresh))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).map_err(io("chmod", &fresh))?;
    if let Some(owner) = owner {
        chown(&fresh, Some(owner), None).map_err(io("chown", &fresh))?;
    }
    let inode = fs::symlink_metadata(&fresh).map_err(io("look at", &fresh))?.ino();
    fs::rename(&fresh, path).map_err(io("rename to", path))?;
    Ok((listener, SocketFile { path: path.to_owned(), inode }))
}

/// The connections whose process runs as one of `allowed`, `limit` at a time; others are closed.
pub(super) fn admitted(
    listener: UnixListener,
    allowed: Vec<u32>,
    limit: usize,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(limit));
    UnixListenerStream::new(listener).filter_map(move |connection| {
        let admitted = match connection {
            Ok(stream) => admit(stream, &allowed, &places).map(Ok),
            Err(error) => Some(Err(error)),
        };
        std::future::ready(admitted)
    })
}

fn admit(stream: UnixStream, allowed: &[u32], places: &Arc<Semaphore>) -> Option<Connection> {
    let peer = match stream.peer_cred() {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!(%error, "connection refused: its user is unknown");
            return None;
        }
    };
    if !allowed.contains(&peer.uid()) {
        tracing::warn!(uid = peer.uid(), pid = peer.pid(), "connection refused: not an allowed user");
        return None;
    }
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        tracing::warn!(pid = peer.pid(), "connection refused: as many as allowed are open");
        return None;
    };
    Some(Connection { stream, _place: place })
}

#[cfg(test)]
mod tests;
