//! Pinned links: made once, then given new programs in place.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use aya::programs::links::FdLink;

use crate::error::LoadError;
use crate::pins::{self, pin_error};
use crate::sys;

/// The kernel's word for a link whose device, cgroup or namespace is gone.
const ENOLINK: i32 = 67;

/// Whether the link pinned at a path is attached to a target and now runs a program.
///
/// False when there is no link, or one to something else or to something gone: then a new one is needed.
/// The target is a cgroup's id, a namespace's inode or a device's index.
pub(crate) fn update(path: &Path, target: u64, program: BorrowedFd<'_>) -> Result<bool, LoadError> {
    let link = match sys::open_pin(path) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(pin_error(path, "opened")(error)),
    };
    if sys::link_target(&link).map_err(pin_error(path, "opened"))? != target {
        return Ok(false);
    }
    match sys::update_link(&link, program) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(ENOLINK) => Ok(false),
        Err(error) => Err(pin_error(path, "updated")(error)),
    }
}

/// Pins a new link, in the place of an old one if there is one: the new one is attached already when the
/// old one goes.
pub(crate) fn pin(path: &Path, link: FdLink) -> Result<(), LoadError> {
    pins::replace(path, |fresh| link.pin(fresh).map(drop).map_err(Into::into))
}

/// Detaches the link pinned at a path and removes the pin; false if there was none.
pub(crate) fn remove(path: &Path) -> Result<bool, LoadError> {
    match sys::open_pin(path) {
        Ok(link) => sys::detach_link(&link).map_err(pin_error(path, "detached"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(pin_error(path, "opened")(error)),
    }
    pins::remove(path)
}
