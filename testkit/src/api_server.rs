//! A Kubernetes API server as far as clients of it need one: lists, watches, objects and their statuses, and
//! everything that can go wrong with them, on order.
//!
//! It follows the API conventions (resource versions, bookmarks, streamed lists, 410, conflicts) and checks no
//! schema: an object may have any shape.

mod answer;
mod store;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;

use self::store::Store;
use crate::certificate::Certificate;

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, and `Retry-After` in seconds where it is more than 0.
    Status(u16, u64),
    /// Success, with these bytes in place of the answer.
    Body(String),
    /// An answer after this long.
    Slow(Duration),
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
}

/// A running API server, stopped when dropped.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    tls: Option<Certificate>,
    shared: Arc<Shared>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    /// Rises when there may be something for watches.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    store: Store,
    faults: Vec<(String, Fault, usize)>,
    asked: Vec<Asked>,
    tokens: Option<BTreeSet<String>>,
    streams_lists: bool,
    /// Watches of an earlier number end.
    cuts: u64,
    /// Bytes for the watches of a path.
    raw: Vec<(String, String)>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_modify(|number| *number += 1);
    }
}

impl ApiServer {
    /// In clear text, on a free port of the loopback, with these collections, such as `/api/v1/services`.
    pub fn start(collections: &[&str]) -> anyhow::Result<Self> {
        Self::begin(collections, None)
    }

    /// The same with TLS.
    pub fn start_tls(collections: &[&str], certificate: Certificate) -> anyhow::Result<Self> {
        Self::begin(collections, Some(certificate))
    }

    fn begin(collections: &[&str], tls: Option<Certificate>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let shared = Arc::new(Shared::default());
        {
            let mut inner = shared.lock();
            inner.streams_lists = true;
            collections.iter().for_each(|path| inner.store.serve(path));
        }
        let mut server = Self { address: listener.local_addr()?, tls, shared, running: None };
        server.run(listener)?;
        Ok(server)
    }

    fn run(&mut self, listener: TcpListener) -> anyhow::Result<()> {
        listener.set_nonblocking(true)?;
        let acceptor = self.tls.as_ref().map(acceptor).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name("api-server".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, acceptor, shared) => {}
                    _ = stopped => {}
                }
            });
        })?;
        self.running = Some((stop, thread));
        Ok(())
    }

    /// Ends: connections are closed and new ones refused. What it stores stays.
    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            // An error says that it has ended already.
            let _ = stop.send(());
            let _ = thread.join();
        }
    }

    /// Begins again after [`Self::stop`], at the same address.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let listener = TcpListener::bind(self.address).context("the port is taken")?;
        self.run(listener)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Serves a further collection, as when a custom resource definition is installed.
    pub fn serve(&self, collection: &str) {
        self.shared.lock().store.serve(collection);
    }

    /// Puts an object into a collection, in place of the one of its name.
    pub fn put(&self, collection: &str, object: Value) {
        self.shared.lock().store.put(collection, object);
        self.shared.tell();
    }

    /// Takes an object out.
    pub fn delete(&self, collection: &str, namespace: &str, name: &str) {
        self.shared.lock().store.delete(collection, namespace, name);
        self.shared.tell();
    }

    /// An object as it is now.
    pub fn get(&self, collection: &str, namespace: &str, name: &str) -> Option<Value> {
        self.shared.lock().store.get(collection, namespace, name).cloned()
    }

    /// The next `times` requests whose method, path and query hold `part`, such as `watch=` or `GET /api/v1/secrets`, fail.
    pub fn fail(&self, part: &str, fault: Fault, times: usize) {
        self.shared.lock().faults.push((part.to_owned(), fault, times));
    }

    /// Ends the faults.
    pub fn heal(&self) {
        self.shared.lock().faults.clear();
    }

    /// Forgets the history: watches from an earlier position get 410, the open ones end.
    pub fn compact(&self) {
        let mut inner = self.shared.lock();
        inner.store.compact();
        inner.cuts += 1;
        drop(inner);
        self.shared.tell();
    }

    /// Closes all watches.
    pub fn cut_watches(&self) {
        self.shared.lock().cuts += 1;
        self.shared.tell();
    }

    /// Sends bytes on the watches of a collection.
    pub fn send_raw(&self, collection: &str, bytes: &str) {
        self.shared.lock().raw.push((collection.to_owned(), bytes.to_owned()));
        self.shared.tell();
    }

    /// Takes these tokens and no others.
    pub fn take_tokens(&self, tokens: &[&str]) {
        self.shared.lock().tokens = Some(tokens.iter().map(|token| (*token).to_owned()).collect());
    }

    /// Whether lists are streamed when a client asks so; a server that does not answers 422.
    pub fn stream_lists(&self, streams: bool) {
        self.shared.lock().streams_lists = streams;
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.lock().asked.clone()
    }

    /// How many requests so far had `part` in method, path and query.
    pub fn count(&self, part: &str) -> usize {
        self.asked().iter().filter(|asked| format!("{} {}", asked.method, asked.path).contains(part)).count()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn acceptor(certificate: &Certificate) -> anyhow::Result<TlsAcceptor> {
    let chain = vec![CertificateDer::from_pem_slice(certificate.certificate_pem.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        let (shared, acceptor) = (shared.clone(), acceptor.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| answer::answer(shared.clone(), request));
            let server = auto::Builder::new(TokioExecutor::new());
            // A client that goes away is no matter.
            let _ = match acceptor {
                None => server.serve_connection(TokioIo::new(stream), service).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
                    Err(_) => return,
                },
            };
        });
    }
}
