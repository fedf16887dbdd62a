//! Sockets for upstream connections that keep the client's address.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use mesh_l7proxy_wire::{Refusal, RefusalKind};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::args::PortRange;

/// Tries with a port of its own before ports are shared.
const EXCLUSIVE_TRIES: u32 = 16;

/// Tries with a port that may be in use towards another destination.
const SHARED_TRIES: u32 = 16;

/// Makes them.
///
/// Ports are chosen here rather than by `IP_LOCAL_PORT_RANGE`: that option only narrows the
/// namespace's `ip_local_port_range` (seen on 6.18), and ours has to lie outside of it, since the
/// pods, whose addresses are borrowed, choose theirs from the same numbers.
#[derive(Debug)]
pub(super) struct UpstreamSockets {
    ports: PortRange,
    /// Keyed at random, so that nobody outside can guess the next port (RFC 6056).
    order: RandomState,
    drawn: u64,
}

impl UpstreamSockets {
    pub(super) fn new(ports: PortRange) -> Self {
        Self { ports, order: RandomState::new(), drawn: 0 }
    }

    /// First and last port.
    pub(super) fn range(&self) -> (u16, u16) {
        (self.ports.low, self.ports.high)
    }

    /// A non-blocking TCP socket bound to this address, which the node need not own.
    pub(super) fn open(&mut self, local: IpAddr, mark: u32) -> Result<OwnedFd, Refusal> {
        if local.is_unspecified() || local.is_multicast() {
            return Err(Refusal {
                kind: RefusalKind::Invalid,
                message: format!("{local} is no address of a client"),
            });
        }
        let socket = transparent_socket(local, mark).map_err(|error| refusal(local, mark, &error))?;
        for _ in 0..EXCLUSIVE_TRIES {
            match socket.bind(&self.draw(local)) {
                Ok(()) => return shareable(socket).map_err(|error| refusal(local, mark, &error)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(refusal(local, mark, &error)),
            }
        }
        let socket = shareable(socket).map_err(|error| refusal(local, mark, &error))?;
        let socket = Socket::from(socket);
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..SHARED_TRIES {
            match socket.bind(&self.draw(local)) {
                Ok(()) => return Ok(socket.into()),
                Err(error) => last = error,
            }
        }
        Err(refusal(local, mark, &last))
    }

    fn draw(&mut self, local: IpAddr) -> SockAddr {
        self.drawn = self.drawn.wrapping_add(1);
        let offset = self.order.hash_one(self.drawn) % self.ports.count();
        let port = u64::from(self.ports.low) + offset;
        SocketAddr::new(local, u16::try_from(port).expect("low + offset <= high")).into()
    }
}

fn transparent_socket(local: IpAddr, mark: u32) -> io::Result<Socket> {
    let domain = if local.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    set_transparent(&socket, domain)?;
    if mark != 0 {
        socket.set_mark(mark)?;
    }
    Ok(socket)
}

/// Sets `IP_TRANSPARENT` or `IPV6_TRANSPARENT`; needs CAP_NET_RAW or CAP_NET_ADMIN.
pub(super) fn set_transparent(socket: &Socket, domain: Domain) -> io::Result<()> {
    if domain == Domain::IPV4 {
        socket.set_ip_transparent_v4(true)
    } else {
        socket.set_ip_transparent_v6(true)
    }
}

/// Lets later sockets share the port. Set only after an exclusive bind: before it, the bind would not
/// tell that the port is taken, and the clash would show at connect, to the proxy.
fn shareable(socket: Socket) -> io::Result<OwnedFd> {
    socket.set_reuse_address(true)?;
    Ok(socket.into())
}

fn refusal(local: IpAddr, mark: u32, error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Refusal {
            kind: RefusalKind::NotPermitted,
            message: format!(
                "a connection from {local} (mark {mark:#x}) needs CAP_NET_RAW, which the starter does not have; \
                 run it as root or switch off keeping the client's address"
            ),
        },
        io::ErrorKind::AddrInUse => Refusal {
            kind: RefusalKind::AddressInUse,
            message: format!("no free source port for {local}; widen --upstream-ports"),
        },
        _ => Refusal {
            kind: RefusalKind::Failed,
            message: format!("no socket with the source address {local} (mark {mark:#x}): {error}"),
        },
    }
}

#[cfg(test)]
mod tests;
