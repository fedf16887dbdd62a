//! Bytes in anonymous memory that nobody can change any more: how the configuration, keys
//! included, outlives a worker without ever being in a file.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags};

/// The largest configuration that is kept, in bytes.
pub const MAX_STORED: u64 = 256 * 1024 * 1024;

/// What is sealed: size and content, and the seals themselves.
const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// Why a descriptor is not a sealed configuration.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// It can still be changed, or is no memfd at all.
    #[error("the descriptor is not sealed memory (a memfd with the seals write, shrink, grow and seal)")]
    NotSealed,
    /// It is larger than what is kept.
    #[error("the configuration has {bytes} bytes; at most {MAX_STORED} are kept")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// The kernel refused.
    #[error("sealed memory could not be read")]
    Io(#[source] io::Error),
}

/// A new sealed memfd with what `write` writes.
///
/// # Errors
/// What the kernel says: no memory, no descriptors; and what `write` says.
pub fn sealed_memfd(name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(memory);
    write(&mut file)?;
    rustix::fs::fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}

/// Checks that nobody can change it any more and that it is not too large. Returns its size.
///
/// # Errors
/// See [`SealedError`].
pub fn verify_sealed(memory: BorrowedFd<'_>) -> Result<u64, SealedError> {
    let seals = rustix::fs::fcntl_get_seals(memory).map_err(|_| SealedError::NotSealed)?;
    if !seals.contains(SEALS) {
        return Err(SealedError::NotSealed);
    }
    let bytes = rustix::fs::fstat(memory).map_err(|errno| SealedError::Io(errno.into()))?.st_size;
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    if bytes > MAX_STORED { Err(SealedError::TooLarge { bytes }) } else { Ok(bytes) }
}

/// Reads it whole. The offset, which all holders of the descriptor share, is neither used nor moved.
///
/// # Errors
/// See [`SealedError`].
pub fn read_sealed(memory: OwnedFd) -> Result<Vec<u8>, SealedError> {
    let size = verify_sealed(memory.as_fd())?;
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    File::from(memory).read_exact_at(&mut bytes, 0).map_err(SealedError::Io)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
