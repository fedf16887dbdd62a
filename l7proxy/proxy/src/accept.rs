//! From a listening socket to a connection whose filter chain is known.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mesh_l7proxy_config::http_manager::{Codec, HttpManager};
use mesh_l7proxy_config::listener::{FilterChain, Listener, Network, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use crate::codec::{self, Protocol};
use crate::connection::{Connection, Established};
use crate::core::{Core, Held};
use crate::descriptors;
use crate::io::{HelloLimit, Io, Stream};
use crate::proxy_protocol;

/// A hello with many keys and extensions stays far below; RFC 8446 sets no limit.
const LONGEST_HELLO: usize = 16 * 1024;

/// For a TLS handshake, from the hello to the last flight.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// After an accept failed for want of descriptors or memory: retrying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The first bytes of every HTTP/2 connection (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Accepts until dropped; one task a connection.
pub(crate) async fn accept_all(
    core: Rc<Core>,
    name: Arc<str>,
    socket: TcpListener,
    draining: watch::Receiver<bool>,
) {
    let mut complained = false;
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                let scarce = descriptors::is_reserve(stream.as_raw_fd());
                let held = Held::new(&core);
                let (core, listener, draining) = (core.clone(), name.clone(), draining.clone());
                tokio::task::spawn_local(async move {
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    if let Err(error) = establish(core, held, &listener, stream, peer, draining).await {
                        tracing::debug!(listener = &*listener, src.addr = %peer, %error, "connection ended early");
                    }
                });
                if !scarce {
                    complained = false;
                    continue;
                }
                // Whoever comes next waits in the listening socket.
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!(
                        listener = &*name,
                        "too many open files: accepting pauses; raise the limit"
                    );
                }
                while !descriptors::have_room() {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                core.counters().accept_errors.add(1);
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!(listener = &*name, %error, "cannot accept");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection with its chain, ready for the chain's network filter.
struct Selected {
    io: Io,
    /// Client and its destination, where the PROXY protocol tells them.
    ends: Option<(SocketAddr, SocketAddr)>,
    chain: Arc<FilterChain>,
    tls: bool,
    server_name: Option<Arc<str>>,
    alpn: Option<Protocol>,
}

/// Listener by original destination, chain by transport and server name, TLS, protocol, then HTTP.
async fn establish(
    core: Rc<Core>,
    held: Held,
    name: &str,
    stream: TcpStream,
    peer: SocketAddr,
    draining: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    serve(core, held, name, stream, (peer, local), draining).await
}

/// The same where both ends are known already.
pub(crate) async fn serve(
    core: Rc<Core>,
    held: Held,
    name: &str,
    stream: TcpStream,
    (peer, local): (SocketAddr, SocketAddr),
    mut draining: watch::Receiver<bool>,
) -> io::Result<()> {
    let snapshot = core.snapshot();
    let Some(bound) = snapshot.listener(name) else {
        return Err(io::Error::other("the listener is gone"));
    };
    // `bpf_sk_assign` leaves the original destination as the socket's own address.
    let listener = if bound.use_original_dst {
        snapshot.listener_at(local).unwrap_or_else(|| {
            core.counters().unknown_destination.add(1);
            bound
        })
    } else {
        bound
    };
    let listener = listener.clone();
    drop(snapshot);
    // When the listener goes away meanwhile: its client may have sent a request that is under way still.
    let ready = tokio::select! {
        ready = get_ready(&core, &listener, stream) => ready?,
        () = async {
            let _ = draining.wait_for(|draining| *draining).await;
            tokio::time::sleep(codec::LAST_REQUEST_WITHIN).await;
        } => None,
    };
    let Some((selected, protocol)) = ready else { return Ok(()) };
    let Selected { mut io, ends, chain, tls, server_name, .. } = selected;
    let (peer, local) = ends.unwrap_or((peer, local));
    match &chain.network {
        Network::Respond(bytes) => {
            io.write_all(bytes).await?;
            io.shutdown().await
        }
        Network::Http(manager) => {
            let manager = manager.clone();
            let connection = Connection::new(
                &core,
                Established { listener, manager, peer, local, tls, server_name, held },
            );
            codec::serve(io, protocol, connection, draining).await;
            Ok(())
        }
    }
}

/// The chain, with TLS established, and the protocol spoken on it. None: close.
async fn get_ready(
    core: &Rc<Core>,
    listener: &Listener,
    mut stream: TcpStream,
) -> io::Result<Option<(Selected, Protocol)>> {
    let (mut ends, mut start) = (None, Bytes::new());
    if let Some(rules) = listener.proxy_protocol {
        let header = within(listener.inspection_timeout, proxy_protocol::read(&mut stream, rules)).await;
        (ends, start) = header.inspect_err(|_| core.counters().proxy_protocol_errors.add(1))?;
    }
    let Some(mut selected) = select_chain(core, listener, stream, start).await? else { return Ok(None) };
    selected.ends = ends;
    let mut spoken = Protocol::Http1;
    if let Network::Http(manager) = &selected.chain.network {
        (selected.io, spoken) = protocol(selected.io, manager, selected.alpn).await?;
    }
    Ok(Some((selected, spoken)))
}

/// `start` was read from the stream already. None: the connection was counted and is to be closed.
async fn select_chain(
    core: &Rc<Core>,
    listener: &Listener,
    stream: TcpStream,
    start: Bytes,
) -> io::Result<Option<Selected>> {
    let looks_like_tls = if listener.tls_inspector {
        let mut first = [0];
        match start.first() {
            Some(read) => first[0] = *read,
            None if within(listener.inspection_timeout, stream.peek(&mut first)).await? == 0 => {
                return Ok(None);
            }
            None => {}
        }
        // A handshake record (RFC 8446, 5.1); no HTTP method begins with this byte.
        first[0] == 0x16
    } else {
        false
    };
    let default_chain = listener.chain(false, None);
    let unspecific_tls = !listener.tls_inspector
        && default_chain.is_some_and(|chain| !matches!(chain.transport, Transport::Raw));
    if !looks_like_tls && !unspecific_tls {
        let Some(chain) = default_chain.filter(|chain| matches!(chain.transport, Transport::Raw)) else {
            core.counters().no_filter_chain.add(1);
            return Ok(None);
        };
        let io = Io::new(Stream::Plain(stream)).replaying(start);
        let chain = chain.clone();
        return Ok(Some(Selected { io, ends: None, chain, tls: false, server_name: None, alpn: None }));
    }
    let limited = HelloLimit::new(stream, start, LONGEST_HELLO);
    let acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), limited);
    let mut start = within(listener.inspection_timeout, acceptor).await?;
    start.io.lift();
    let server_name: Option<Arc<str>> =
        start.client_hello().server_name().map(|name| name.to_ascii_lowercase().into());
    let Some(chain) = listener.chain(listener.tls_inspector, server_name.as_deref()) else {
        core.counters().no_filter_chain.add(1);
        return Ok(None);
    };
    let config = match &chain.transport {
        Transport::Tls(server) => server.config().clone(),
        Transport::Unavailable(reason) => {
            core.counters().no_certificate.add(1);
            tracing::debug!(listener = &*listener.name, %reason, "TLS refused");
            return Ok(None);
        }
        Transport::Raw => {
            core.counters().no_filter_chain.add(1);
            return Ok(None);
        }
    };
    let stream = match within(Some(HANDSHAKE_TIMEOUT), start.into_stream(config)).await {
        Ok(stream) => stream,
        Err(error) => {
            if let Network::Http(manager) = &chain.network {
                core.http(&manager.stat_prefix).tls_failures.add(1);
            }
            return Err(error);
        }
    };
    let alpn = stream
        .get_ref()
        .1
        .alpn_protocol()
        .map(|name| if name == b"h2" { Protocol::Http2 } else { Protocol::Http1 });
    let io = Io::new(Stream::Tls(Box::new(stream)));
    Ok(Some(Selected { io, ends: None, chain: chain.clone(), tls: true, server_name, alpn }))
}

/// By configuration, else ALPN, else the first bytes, which are put back.
async fn protocol(mut io: Io, manager: &HttpManager, alpn: Option<Protocol>) -> io::Result<(Io, Protocol)> {
    match (manager.codec, alpn) {
        (Codec::Http1, _) => return Ok((io, Protocol::Http1)),
        (Codec::Http2, _) => return Ok((io, Protocol::Http2)),
        (Codec::Auto, Some(protocol)) => return Ok((io, protocol)),
        (Codec::Auto, None) => {}
    }
    let mut first = BytesMut::with_capacity(4096);
    let mut limit = manager.limits.connection_idle;
    loop {
        if within(limit, io.read_buf(&mut first)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = first.len().min(PREFACE.len());
        if first[..size] != PREFACE[..size] {
            return Ok((io.replaying(first.freeze()), Protocol::Http1));
        }
        if size == PREFACE.len() {
            return Ok((io.replaying(first.freeze()), Protocol::Http2));
        }
        limit = manager.limits.request_headers;
    }
}

async fn within<T>(limit: Option<Duration>, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match limit {
        None => work.await,
        Some(limit) => timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
    }
}
