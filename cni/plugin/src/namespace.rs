//! The pod's network namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Moves this process, which has one thread and ends soon, into the namespace; returns it and a netlink socket
/// (`NETLINK_ROUTE`) that stays in it wherever it is used. Needs CAP_SYS_ADMIN, which a runtime's plugins have.
pub(crate) fn enter(path: &Path) -> io::Result<Vec<OwnedFd>> {
    let namespace = OwnedFd::from(File::open(path)?);
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    Ok(vec![namespace, socket])
}
