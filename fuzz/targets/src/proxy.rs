//! The data path of the proxy between a client that may send anything and an endpoint that is strict.
//!
//! One thread, one runtime. The client's stream is a pair of Unix sockets; the endpoint is on loopback, and
//! each input has connections of its own to it.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mesh_l7proxy_config::{ConfigStore, NamedResource, Snapshot};
use mesh_l7proxy_proxy::{SingleThread, UpstreamSockets};
use mesh_xds_proto::json;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use crate::endpoint::{self, Answers, Head, Seen};

/// A connection that neither ends nor fails within so many seconds is stuck: its client has said all it has
/// to say.
const PATIENCE: u32 = 15;

/// Turns of the runtime in which nothing comes: some times as many as a request takes to the endpoint and back.
const STILL: u32 = 32;

/// Where the client seems to be.
const PEER: ([u8; 4], u16) = ([192, 0, 2, 10], 40000);

/// Where it seems to have connected to.
const LOCAL: ([u8; 4], u16) = ([203, 0, 113, 1], 80);

/// What became of one connection.
pub(crate) struct Outcome {
    /// What the client got, from the start, as far as it is worth looking at.
    pub(crate) reply: Vec<u8>,
    /// Heads of the requests that reached the endpoint.
    pub(crate) forwarded: Vec<Head>,
    thread: SingleThread,
}

impl Outcome {
    /// The counters of the proxy, which it takes longer to print than to serve a connection.
    pub(crate) fn stats(&self) -> Value {
        self.thread.stats()
    }
}

struct World {
    runtime: Runtime,
    /// Taken for the time of a run.
    listener: RefCell<Option<TcpListener>>,
    snapshot: Arc<Snapshot>,
}

thread_local! {
    static WORLD: World = World::new();
}

impl World {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("loopback has a port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let snapshot = snapshot(address);
        Self { runtime, listener: RefCell::new(Some(listener)), snapshot }
    }
}

/// Sends `parts` one after the other to a listener, then ends the client's side, and waits for the proxy to
/// end its own. Panics when the endpoint sees what no request may be, or the connection does not end.
pub(crate) fn converse(listener: &str, parts: &[&[u8]], answers: Answers) -> Outcome {
    WORLD.with(|world| {
        let listening = world.listener.borrow_mut().take().expect("inputs come one after the other");
        let tasks = LocalSet::new();
        let (outcome, listening) = tasks.block_on(
            &world.runtime,
            connection(world.snapshot.clone(), listener, parts, answers, listening),
        );
        // Ends what is left of connections to the endpoint, before the next input comes.
        drop(tasks);
        world.listener.replace(Some(listening));
        outcome
    })
}

async fn connection(
    snapshot: Arc<Snapshot>,
    listener: &str,
    parts: &[&[u8]],
    answers: Answers,
    listening: TcpListener,
) -> (Outcome, TcpListener) {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let listening = Rc::new(listening);
    let endpoint = tokio::task::spawn_local(endpoint::accept_all(listening.clone(), answers, seen.clone()));
    let (ours, theirs) = StdUnixStream::pair().expect("a pair of sockets can be made");
    ours.set_nonblocking(true).and_then(|()| theirs.set_nonblocking(true)).expect("sockets can be set");
    let theirs = std::net::TcpStream::from(OwnedFd::from(theirs));
    let theirs = TcpStream::from_std(theirs).expect("the runtime takes the socket");
    let ours = UnixStream::from_std(ours).expect("the runtime takes the socket");

    let thread = SingleThread::new(snapshot, Arc::new(NoSockets));
    let served = thread.serve(listener, theirs, (PEER.into(), LOCAL.into()));
    let both = async { tokio::join!(served, client(ours, parts)) };
    let reply = tokio::select! {
        biased;
        (_, reply) = both => reply,
        () = patience() => {
            panic!("the connection is stuck after {} bytes", parts.iter().map(|part| part.len()).sum::<usize>())
        }
    };
    // The endpoint looks at what is there still.
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
    endpoint.abort();
    // The task lets go of the listener when it is gone.
    let _ = endpoint.await;
    let listening = Rc::into_inner(listening).expect("nobody else has the listener");
    let Seen { heads, violations } = seen.take();
    assert_eq!(violations, Vec::<String>::new(), "an endpoint could read it otherwise");
    (Outcome { reply, forwarded: heads, thread }, listening)
}

/// Ends when the process has waited for long. Time in which it was stopped counts as one second at most.
async fn patience() {
    for _ in 0..PATIENCE {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn client(stream: UnixStream, parts: &[&[u8]]) -> Vec<u8> {
    let (mut reader, mut writer) = stream.into_split();
    let received = Cell::new(0);
    let sends = async {
        for part in parts {
            if writer.write_all(part).await.is_err() {
                break;
            }
            // Lets the proxy see this much before more comes.
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
        // A client that has hung up need not be answered: how many of its requests still are, would be a matter of
        // moments. So it waits until nothing more comes.
        let (mut still, mut last) = (0, received.get());
        while still < STILL {
            tokio::task::yield_now().await;
            still = if received.get() == last { still + 1 } else { 0 };
            last = received.get();
        }
        let _ = writer.shutdown().await;
    };
    let reads = async {
        let mut reply = Vec::new();
        let mut buffer = [0; 16 * 1024];
        while let Ok(size @ 1..) = reader.read(&mut buffer).await {
            received.set(received.get() + size);
            if reply.len() < 64 * 1024 {
                reply.extend_from_slice(&buffer[..size]);
            }
        }
        reply
    };
    tokio::join!(sends, reads).1
}

/// No listener here keeps its client's address.
struct NoSockets;

impl UpstreamSockets for NoSockets {
    fn transparent(&self, _: IpAddr) -> Pin<Box<dyn Future<Output = io::Result<OwnedFd>> + Send>> {
        Box::pin(async { Err(io::Error::other("no listener asks for this")) })
    }
}

fn snapshot(endpoint: SocketAddr) -> Arc<Snapshot> {
    let pair = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate can be made");
    let fill = |text: &str| {
        text.replace("ENDPOINT_PORT", &endpoint.port().to_string())
            .replace("CERTIFICATE", &pair.cert.pem().replace('\n', "\\n"))
            .replace("PRIVATE", &pair.signing_key.serialize_pem().replace('\n', "\\n"))
    };
    let mut store = ConfigStore::new();
    for text in include_str!("proxy/resources.yaml").split("\n---\n") {
        let body = json::decode_any_yaml(&fill(text)).expect("the resources are good");
        let shown = json::encode_any(&body).expect("what was read can be printed");
        let name =
            shown["name"].as_str().or(shown["cluster_name"].as_str()).expect("it has a name").to_owned();
        let type_url = body.type_url.clone();
        let resource = NamedResource { name, version: "1".to_owned(), body };
        assert_eq!(store.apply(&type_url, vec![resource], &[]), []);
    }
    store.snapshot()
}
