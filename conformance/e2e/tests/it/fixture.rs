//! What the scenarios share.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mesh_conformance::faults::{self, Length, Rig};
use mesh_conformance::{PlainOptions, PlainStack, Stack, StackOptions};
use mesh_testkit::certificate::Certificate;
use mesh_testkit::http::{Answer, Connection, Speak};
use mesh_testkit::namespace::Namespace;

/// Stacks of one process have different names.
static NUMBER: AtomicU32 = AtomicU32::new(0);

fn name() -> String {
    format!("mrt-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn quickstart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/quickstart")
}

/// Where cargo puts the programs of the workspace.
pub(crate) fn programs() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_demo")).parent().expect("a program lies in a folder").to_owned()
}

/// The kernel programs; `None`, said loudly, where they were not built.
#[expect(clippy::print_stderr, reason = "a skip is said loudly")]
pub(crate) fn bpf_object(test: &str) -> Option<PathBuf> {
    let object = std::env::var_os("MILLRACE_BPF_OBJECT").map(PathBuf::from).filter(|path| path.is_file());
    if object.is_none() {
        eprintln!(
            "SKIPPED: {test}: MILLRACE_BPF_OBJECT does not name the kernel programs; run `cargo xtask test kernel`"
        );
    }
    object
}

/// A redirecting stack and the certificate of shop.example.com.
pub(crate) struct Redirecting {
    pub(crate) stack: Stack,
    pub(crate) certificate: Certificate,
}

/// The quickstart, its agent not yet started. `None` where it cannot run.
pub(crate) fn redirecting(test: &str, agent_arguments: &[&str]) -> Option<Redirecting> {
    let options = StackOptions {
        prefix: name(),
        programs: programs(),
        bpf_object: bpf_object(test)?,
        manifests: quickstart(),
        pods: 3,
        agent_arguments: agent_arguments.iter().map(|argument| (*argument).to_owned()).collect(),
    };
    let stack = Stack::create(options).expect("root can make namespaces");
    let certificate = Certificate::for_hosts(&["shop.example.com"]).expect("a certificate");
    stack.write_manifest("15-secret.yaml", &certificate.secret("shop", "shop-tls")).expect("a Secret");
    Some(Redirecting { stack, certificate })
}

/// Runs a fault as long as the gate has time, and prints what was counted.
pub(crate) fn fault(test: &str, name: &str) {
    if let Some(bpf_object) = bpf_object(test) {
        run_fault(name, bpf_object);
    }
}

/// The same for one that needs neither root nor kernel programs.
pub(crate) fn plain_fault(name: &str) {
    run_fault(name, PathBuf::new());
}

#[expect(clippy::print_stderr, reason = "the figures are for whoever reads the test's output")]
fn run_fault(name: &str, bpf_object: PathBuf) {
    let scenario = faults::scenario(name).expect("a fault of this name");
    let rig = Rig { programs: programs(), bpf_object, manifests: quickstart(), prefix: self::name() };
    match (scenario.run)(&rig, Length::Gate) {
        Ok(figures) => eprintln!("{figures}"),
        Err(error) => panic!("{error:#}"),
    }
}

/// The quickstart, serving.
pub(crate) fn serving(test: &str) -> Option<Redirecting> {
    let mut redirecting = redirecting(test, &[])?;
    redirecting.stack.start_agent().expect("the agent starts");
    redirecting.stack.wait_ready().expect("the product is ready");
    Some(redirecting)
}

/// The quickstart on plain listeners, its agent started.
pub(crate) fn plain() -> PlainStack {
    plain_with(|_| {})
}

/// The same, with something done before the agent starts.
pub(crate) fn plain_with(before: impl FnOnce(&PlainStack)) -> PlainStack {
    let mut stack = plain_stack(0, 0);
    let certificate = Certificate::for_hosts(&["shop.example.com"]).expect("a certificate");
    stack.write_manifest("15-secret.yaml", &certificate.secret("shop", "shop-tls")).expect("a Secret");
    before(&stack);
    stack.start_agent().expect("the agent starts");
    stack
}

/// The quickstart on plain listeners of these ports, nothing started but its backends; without its Secret.
pub(crate) fn plain_stack(http_port: u16, https_port: u16) -> PlainStack {
    let options = PlainOptions {
        programs: programs(),
        manifests: quickstart(),
        folder: std::env::temp_dir().join(name()),
        pods: 3,
        http_port,
        https_port,
    };
    PlainStack::create(options).expect("backends can listen")
}

/// TLS to shop.example.com.
pub(crate) fn tls(certificate: &Certificate) -> Speak {
    Speak::Tls {
        server_name: "shop.example.com".to_owned(),
        trusted_pem: certificate.certificate_pem.clone(),
        alpn: vec!["h2", "http/1.1"],
    }
}

/// An HTTP/1.1 connection out of a namespace.
pub(crate) fn open(from: &Namespace, to: SocketAddr) -> Connection {
    Connection::open(from.connect(to).expect("a connection"), &Speak::Http1).expect("a handshake")
}

/// A `GET` on a connection of its own.
pub(crate) fn get(from: &Namespace, to: SocketAddr, host: &str, path: &str) -> Answer {
    open(from, to).get(host, path).expect("an answer")
}

/// A `GET` on a plain listener.
pub(crate) fn get_plain(to: SocketAddr, host: &str, path: &str) -> anyhow::Result<Answer> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
    Connection::open(stream, &Speak::Http1)?.get(host, path)
}

/// An address with a port.
pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().expect("an address"), port)
}

/// How much a counter of the kernel programs rises while `work` is done.
pub(crate) fn counted<T>(stack: &Stack, name: &str, work: impl FnOnce() -> T) -> (T, u64) {
    let before = stack.counters().expect("counters");
    let outcome = work();
    let after = stack.counters().expect("counters");
    (outcome, after[name] - before[name])
}
