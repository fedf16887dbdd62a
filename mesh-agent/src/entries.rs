//! Where redirected connections are handed to the proxy: a loopback port for each of its threads.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::bail;
use mesh_l7proxy_wire::{OpenListener, StarterClient};
use mesh_xds::lower::ENTRY;

/// The loopback port of each proxy thread, the same in both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entries {
    /// By thread.
    pub(crate) ports: Vec<u16>,
    /// Whether this node has IPv6.
    pub(crate) ipv6: bool,
}

/// The sockets of one thread.
#[derive(Debug)]
pub(crate) struct ThreadSockets {
    /// On the IPv4 loopback address.
    pub(crate) v4: OwnedFd,
    /// On the IPv6 one, where the node has IPv6.
    pub(crate) v6: Option<OwnedFd>,
}

impl Entries {
    /// Chooses the ports.
    ///
    /// A running proxy keeps those it has, so that an agent's restart changes nothing; otherwise the first ports
    /// of `range` that are free.
    pub(crate) fn choose(starter: &Path, threads: u16, range: (u16, u16)) -> anyhow::Result<Self> {
        let ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        if let Ok(mut client) = StarterClient::connect(starter) {
            let mut ports: Vec<u16> = client
                .listeners()?
                .iter()
                .filter(|open| open.info.spec.name == ENTRY && open.info.local.is_ipv4())
                .map(|open| open.info.local.port())
                .collect();
            ports.sort_unstable();
            if ports.len() == usize::from(threads) {
                return Ok(Self { ports, ipv6 });
            }
        }
        let free = (range.0..=range.1).filter(|port| is_free(*port, ipv6));
        let ports: Vec<u16> = free.take(usize::from(threads)).collect();
        if ports.len() < usize::from(threads) {
            bail!("no {threads} free loopback ports in {}-{}: widen --proxy-ports", range.0, range.1);
        }
        Ok(Self { ports, ipv6 })
    }

    /// The ports of each thread, as the translation wants them.
    pub(crate) fn by_thread(&self) -> Vec<(u16, Option<u16>)> {
        self.ports.iter().map(|port| (*port, self.ipv6.then_some(*port))).collect()
    }

    /// The sockets of each thread out of the starter's listeners; `None` until each thread has its own.
    pub(crate) fn complete(&self, listeners: Vec<OpenListener>) -> Option<Vec<ThreadSockets>> {
        let mut v4: Vec<Option<OwnedFd>> = self.ports.iter().map(|_| None).collect();
        let mut v6: Vec<Option<OwnedFd>> = self.ports.iter().map(|_| None).collect();
        for open in listeners.into_iter().filter(|open| open.info.spec.name == ENTRY) {
            let local: SocketAddr = open.info.local;
            let Some(thread) = self.ports.iter().position(|port| *port == local.port()) else { continue };
            let of_family = if local.is_ipv4() { &mut v4 } else { &mut v6 };
            of_family[thread] = open.sockets.into_iter().next();
        }
        let threads = v4.into_iter().zip(v6).map(|(v4, v6)| {
            let v6 = v6.filter(|_| self.ipv6);
            (self.ipv6 == v6.is_some()).then_some(())?;
            Some(ThreadSockets { v4: v4?, v6 })
        });
        threads.collect::<Option<Vec<_>>>().filter(|threads| !threads.is_empty())
    }
}

fn is_free(port: u16, ipv6: bool) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && (!ipv6 || TcpListener::bind((Ipv6Addr::LOCALHOST, port)).is_ok())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    use mesh_l7proxy_wire::{ListenSpec, ListenerInfo, OpenListener};
    use mesh_xds::lower::ENTRY;

    use super::Entries;

    fn open(address: impl Into<IpAddr>, port: u16) -> OpenListener {
        let local = SocketAddr::new(address.into(), port);
        let name = ENTRY.to_owned();
        let spec = ListenSpec { name, address: local, transparent: true, sockets: 1, backlog: 1 };
        let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        OpenListener { info: ListenerInfo { spec, local }, sockets: vec![socket.into()] }
    }

    #[test]
    fn sockets_are_taken_when_each_thread_has_those_of_each_family() {
        let both = Entries { ports: vec![10_001, 10_000], ipv6: true };
        let v4 = |port| open(Ipv4Addr::LOCALHOST, port);
        let v6 = |port| open(Ipv6Addr::LOCALHOST, port);
        assert!(both.complete(vec![]).is_none());
        assert!(both.complete(vec![v4(10_000), v6(10_000), v4(10_001)]).is_none());
        let threads = both.complete(vec![v4(10_000), v6(10_000), v6(10_001), v4(10_001), v4(9)]);
        assert_eq!(threads.map(|threads| threads.len()), Some(2));
        let one = Entries { ports: vec![10_000], ipv6: false };
        let threads = one.complete(vec![v4(10_000)]).expect("nothing more to wait for");
        assert!(threads[0].v6.is_none());
    }
}
