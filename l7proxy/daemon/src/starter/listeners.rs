//! The listening sockets, which outlive every worker.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mesh_l7proxy_wire::{ListenSpec, ListenerInfo, MAX_DESCRIPTORS, OpenListener, Refusal, RefusalKind};
use socket2::{Domain, Protocol, Socket, Type};

use super::upstream::set_transparent;

/// How many listeners the starter keeps at most.
const MAX_LISTENERS: usize = 4096;

/// How many listeners go into one page of a listing; each may take 256 bytes of name.
const PAGE: usize = 64;

/// One listener and its sockets.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) info: ListenerInfo,
    sockets: Vec<OwnedFd>,
}

impl Listener {
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd)
    }

    fn is(&self, name: &str, address: SocketAddr) -> bool {
        if address.port() == 0 {
            self.info.spec.address == address && self.info.spec.name == name
        } else {
            self.info.spec.address == address || self.info.local == address
        }
    }
}

/// All of them, in the order of opening.
#[derive(Debug, Default)]
pub(super) struct ListenerTable {
    listeners: Vec<Listener>,
}

impl ListenerTable {
    /// Opens a listener, or finds the open one at the same address. When that one was opened
    /// otherwise (another number of sockets, transparent or not), it is closed and opened anew.
    pub(super) fn open(&mut self, spec: ListenSpec) -> Result<&Listener, Refusal> {
        check(&spec)?;
        let found = self.listeners.iter().position(|listener| listener.is(&spec.name, spec.address));
        if let Some(index) = found {
            let have = &mut self.listeners[index].info.spec;
            if have.transparent == spec.transparent && have.sockets == spec.sockets {
                // A listener may change its name and keep its address; the sockets stay.
                have.name = spec.name;
                return Ok(&self.listeners[index]);
            }
            self.listeners.remove(index);
        }
        if self.listeners.len() == MAX_LISTENERS {
            return Err(Refusal {
                kind: RefusalKind::Failed,
                message: format!("listener `{}`: {MAX_LISTENERS} listeners are open already", spec.name),
            });
        }
        let (local, sockets) = open_sockets(&spec).map_err(|error| refusal(&spec, &error))?;
        tracing::info!(listener = spec.name, address = %local, sockets = spec.sockets, "listening");
        self.listeners.push(Listener { info: ListenerInfo { spec, local }, sockets });
        Ok(self.listeners.last().expect("pushed above"))
    }

    /// Has the listeners of another starter too.
    pub(super) fn inherit(&mut self, listeners: Vec<OpenListener>) {
        let listeners =
            listeners.into_iter().map(|OpenListener { info, sockets }| Listener { info, sockets });
        self.listeners.extend(listeners);
    }

    /// Closes our sockets; workers close theirs. Returns whether there was such a listener.
    pub(super) fn close(&mut self, name: &str, address: SocketAddr) -> bool {
        let Some(index) = self.listeners.iter().position(|listener| listener.is(name, address)) else {
            return false;
        };
        let closed = self.listeners.remove(index);
        tracing::info!(listener = closed.info.spec.name, address = %closed.info.local, "listener closed");
        true
    }

    /// Closes all.
    pub(super) fn close_all(&mut self) {
        self.listeners.clear();
    }

    /// As many listeners from this index on as one message carries, and where to go on.
    pub(super) fn page(&self, from: usize) -> (&[Listener], Option<usize>) {
        let rest = self.listeners.get(from..).unwrap_or_default();
        let mut descriptors = 0;
        let count = rest
            .iter()
            .take(PAGE)
            .take_while(|listener| {
                descriptors += listener.sockets.len();
                descriptors <= MAX_DESCRIPTORS
            })
            .count();
        (&rest[..count], (count < rest.len()).then_some(from + count))
    }

    pub(super) fn len(&self) -> usize {
        self.listeners.len()
    }
}

fn check(spec: &ListenSpec) -> Result<(), Refusal> {
    let wrong = if spec.sockets == 0 || usize::from(spec.sockets) > MAX_DESCRIPTORS {
        format!("{} sockets; 1 to {MAX_DESCRIPTORS} are possible", spec.sockets)
    } else if spec.name.len() > 256 {
        "a name of more than 256 bytes".to_owned()
    } else {
        return Ok(());
    };
    let name: String = spec.name.chars().take(64).collect();
    Err(Refusal { kind: RefusalKind::Invalid, message: format!("listener `{name}` asks for {wrong}") })
}

fn open_sockets(spec: &ListenSpec) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    let group = spec.sockets > 1;
    if group && spec.address.port() != 0 {
        // A group of another process of the same user would let us join it and take half of its
        // connections. Alone we are refused, which is the "port in use" that people expect.
        bound_socket(spec, spec.address, false)?.listen(1)?;
    }
    let mut address = spec.address;
    let mut sockets = Vec::with_capacity(usize::from(spec.sockets));
    for _ in 0..spec.sockets {
        let socket = bound_socket(spec, address, group)?;
        let bound = socket.local_addr()?.as_socket();
        address = bound.ok_or_else(|| io::Error::other("a TCP socket without an address"))?;
        sockets.push(socket);
    }
    // All are bound before one listens: connections spread over the whole group from the first on.
    for socket in &sockets {
        socket.listen(i32::try_from(spec.backlog).unwrap_or(i32::MAX))?;
    }
    Ok((address, sockets.into_iter().map(OwnedFd::from).collect()))
}

fn bound_socket(spec: &ListenSpec, address: SocketAddr, group: bool) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(group)?;
    if spec.transparent {
        set_transparent(&socket, domain)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn refusal(spec: &ListenSpec, error: &io::Error) -> Refusal {
    let (name, address) = (&spec.name, spec.address);
    let (kind, why) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            RefusalKind::AddressInUse,
            format!(
                "another process listens there; stop it (`ss -ltnp sport = :{}` shows it) or choose another port",
                address.port()
            ),
        ),
        io::ErrorKind::AddrNotAvailable => (
            RefusalKind::AddressNotAvailable,
            "no interface of this node has the address; choose one that `ip address` shows".to_owned(),
        ),
        io::ErrorKind::PermissionDenied if spec.transparent => (
            RefusalKind::NotPermitted,
            "a transparent listener needs CAP_NET_RAW, which the starter does not have; run it as root"
                .to_owned(),
        ),
        io::ErrorKind::PermissionDenied => (
            RefusalKind::NotPermitted,
            format!(
                "port {} is privileged; choose one from 1024 on, or lower net.ipv4.ip_unprivileged_port_start",
                address.port()
            ),
        ),
        _ => (RefusalKind::Failed, error.to_string()),
    };
    Refusal { kind, message: format!("listener `{name}` cannot listen on {address}: {why}") }
}

#[cfg(test)]
mod tests;
