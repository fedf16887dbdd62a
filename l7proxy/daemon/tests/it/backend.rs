//! An HTTP/1.1 server to be proxied to.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Answers every request with its own name, `/peer` with the address of whoever connected to it.
/// `/held` waits until [`Backend::release`].
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    held: AtomicUsize,
    released: Mutex<bool>,
    changed: Condvar,
}

impl Backend {
    pub(crate) fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            held: AtomicUsize::new(0),
            released: Mutex::new(false),
            changed: Condvar::new(),
        });
        let for_connections = shared.clone();
        // Ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = for_connections.clone();
                thread::spawn(move || serve(&shared, stream));
            }
        });
        Self { address, shared }
    }

    /// How many requests wait for [`Backend::release`].
    pub(crate) fn held(&self) -> usize {
        self.shared.held.load(Ordering::SeqCst)
    }

    pub(crate) fn release(&self) {
        *self.shared.released.lock().unwrap() = true;
        self.shared.changed.notify_all();
    }
}

fn serve(shared: &Shared, stream: TcpStream) -> Option<()> {
    let peer = stream.peer_addr().ok()?;
    let mut writer = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let request = lines.next()?.ok()?;
        while !lines.next()?.ok()?.is_empty() {}
        if request.contains("/held") {
            shared.held.fetch_add(1, Ordering::SeqCst);
            let released = shared.released.lock().unwrap();
            drop(shared.changed.wait_while(released, |released| !*released).unwrap());
        }
        let body = if request.contains("/peer") { peer.to_string() } else { shared.name.clone() };
        write!(writer, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).ok()?;
    }
}
