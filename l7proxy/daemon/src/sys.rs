//! The three system calls that no library wraps safely.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use seccompiler::BpfProgramRef;

/// Takes the descriptor of this number, which the parent left open for us.
///
/// To be called once, before the process opens anything else.
///
/// # Errors
/// `EBADF` when it is not open.
pub(crate) fn inherited_descriptor(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only reads flags; it fails with EBADF on a number that is not open.
    if number < 3 || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open (checked above) and nobody else in this process owns it: it is not one of
    // the standard streams, and the worker calls this before it opens any descriptor of its own.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

/// Makes every descriptor but the standard streams close-on-exec, so that what whoever started us left
/// open by mistake does not reach a worker.
///
/// # Errors
/// `ENOSYS` before Linux 5.11.
pub(crate) fn close_inherited_on_exec() -> io::Result<()> {
    let flags = libc::c_int::try_from(libc::CLOSE_RANGE_CLOEXEC).map_err(io::Error::other)?;
    // SAFETY: a flag of descriptors is set, none is closed and no memory is touched.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Installs a filter for this thread and those it will start, and has the kernel log what it denies
/// (`SECCOMP_FILTER_FLAG_LOG`, which seccompiler's own call does not set).
///
/// # Errors
/// `EACCES` without no_new_privs, `EINVAL` when the kernel has no seccomp or refuses the filter.
pub(crate) fn install_logging_filter(program: BpfProgramRef<'_>) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // sock_filter has the layout of struct sock_filter: seccompiler declares it repr(C).
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the kernel copies the program out of `filter` before the call returns and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_LOG,
            std::ptr::from_ref(&filter),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
