//! A backend that dies in the middle of an answer.
//!
//! It passes bytes to and fro between its clients and a good backend, whatever they speak, and closes the
//! connection once so many bytes of answers have passed.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// A running cutter, stopped when dropped.
#[derive(Debug)]
pub struct Cutter {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    backend: SocketAddr,
    /// Bytes of answers that may pass until the connection they pass on is cut.
    budget: AtomicU64,
    connections: AtomicU64,
    passed: AtomicU64,
}

impl Cutter {
    /// In front of a backend; cuts nothing until told to.
    pub fn start(listener: TcpListener, backend: SocketAddr) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            backend,
            budget: AtomicU64::new(u64::MAX),
            connections: AtomicU64::new(0),
            passed: AtomicU64::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = shared.clone();
        thread::Builder::new().name("cutter".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, serving) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, shared, _stop: stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on so many bytes of answers pass, on whatever connection; that connection is closed then, and
    /// every other one that has something to pass.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.budget.store(bytes, Ordering::SeqCst);
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Bytes of answers that have passed so far.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    while let Ok((client, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = shared.clone();
        tokio::spawn(async move {
            let Ok(backend) = TcpStream::connect(shared.backend).await else { return };
            let (mut from_client, to_client) = client.into_split();
            let (from_backend, mut to_backend) = backend.into_split();
            tokio::select! {
                // Both sockets are closed when either direction ends.
                _ = tokio::io::copy(&mut from_client, &mut to_backend) => {}
                () = pass(from_backend, to_client, &shared) => {}
            }
        });
    }
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, shared: &Shared) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let room = usize::try_from(shared.budget.load(Ordering::SeqCst)).unwrap_or(usize::MAX);
        let length = length.min(room);
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        shared.budget.fetch_sub(length as u64, Ordering::SeqCst);
        shared.passed.fetch_add(length as u64, Ordering::SeqCst);
        if length == room {
            return;
        }
    }
}
