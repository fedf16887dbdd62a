//! A backend dies in mid-body.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, ensure};
use mesh_testkit::cutter::Cutter;
use mesh_testkit::echo::{Echo, byte_at};
use mesh_testkit::http::{Answer, Connection, Speak};
use mesh_testkit::wait;

use super::{Length, Rig};
use crate::{PlainOptions, PlainStack};

/// Length of the body.
const BYTES: usize = 300;
/// Towards the end of an answer every byte is tried, before only one in so many; in a soak every one.
const STRIDE: usize = 17;
const EVERY_BYTE_OF: u64 = 12;

/// How the backend frames a body, and what it speaks.
const CASES: [(&str, &str, &str); 4] = [
    ("HTTP/1.1 with a length", "one", "/bytes"),
    ("HTTP/1.1 in chunks", "one", "/chunks"),
    ("HTTP/2 with a length", "two", "/bytes"),
    ("HTTP/2 without a length", "two", "/chunks"),
];

pub(super) fn backend_dies_in_mid_body(rig: &Rig, length: Length) -> anyhow::Result<String> {
    let rounds = length.rounds(1, Duration::from_secs(120));
    let stride = if length == Length::Gate { STRIDE } else { 1 };
    let mut stack = PlainStack::create(PlainOptions {
        programs: rig.programs.clone(),
        manifests: rig.manifests.clone(),
        folder: std::env::temp_dir().join(&rig.prefix),
        pods: 3,
        http_port: 0,
        https_port: 0,
    })?;
    let echo = Echo::start("cut", TcpListener::bind("127.0.0.1:0")?)?;
    let cutters = ["one", "two"].map(|name| {
        let cutter = Cutter::start(TcpListener::bind((stack.loopback(100), 0))?, echo.address())?;
        stack.write_manifest(&format!("80-{name}.yaml"), &manifest(name, cutter.address().port()))?;
        anyhow::Ok(cutter)
    });
    let [one, two] = cutters;
    let (one, two) = (one?, two?);
    stack.start_agent()?;
    let mut told = Vec::new();
    for (case, name, path) in CASES {
        let cutter = if name == "one" { &one } else { &two };
        let host = format!("{name}.example.com");
        let path = format!("{path}/{BYTES}");
        wait::until("the route is served", Duration::from_secs(10), || {
            let answer = ask(&stack, &Speak::Http1, &host, &path)?;
            ensure!(answer.status == 200, "{}", answer.status);
            Ok(())
        })?;
        for speak in [Speak::Http1, Speak::Http2] {
            let mut counts = Counts::default();
            for _ in 0..rounds {
                every_position(&stack, cutter, &speak, (&host, &path), stride, &mut counts)
                    .with_context(|| format!("{case} behind {speak:?}"))?;
            }
            told.push(format!("{case}, client {speak:?}: {counts:?}"));
        }
    }
    Ok(told.join("\n"))
}

/// What clients saw.
#[derive(Debug, Default)]
struct Counts {
    cut_positions: u64,
    seen_as_cut: u64,
    answered_with_an_error: u64,
    whole: u64,
}

/// Cuts at many places between the first and the last byte of an answer.
fn every_position(
    stack: &PlainStack,
    cutter: &Cutter,
    speak: &Speak,
    (host, path): (&str, &str),
    stride: usize,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    let whole = whole_length(stack, cutter, speak, host, path)?;
    let sparse = (1..whole.saturating_sub(EVERY_BYTE_OF)).step_by(stride);
    let dense = whole.saturating_sub(EVERY_BYTE_OF)..whole;
    for position in sparse.chain(dense) {
        cutter.cut_after(position);
        counts.cut_positions += 1;
        match ask(stack, speak, host, path) {
            Err(_) => counts.seen_as_cut += 1,
            Ok(answer) if answer.status.is_server_error() => counts.answered_with_an_error += 1,
            Ok(answer) => {
                // Legal only when all of the body had passed: a length says so, or the end of an HTTP/2
                // stream, which other frames follow.
                check_whole(&answer).with_context(|| format!("cut after {position} of {whole} bytes"))?;
                counts.whole += 1;
            }
        }
        // Whoever comes next gets an answer of its own, on another connection.
        cutter.cut_after(u64::MAX);
        let next = ask(stack, speak, host, path).with_context(|| format!("after the cut at {position}"))?;
        check_whole(&next).with_context(|| format!("after the cut at {position}"))?;
    }
    ensure!(counts.seen_as_cut > 0, "nobody saw a cut body: {counts:?}");
    Ok(())
}

/// Bytes of one answer: the most of some, for the first on a connection comes with a handshake.
fn whole_length(
    stack: &PlainStack,
    cutter: &Cutter,
    speak: &Speak,
    host: &str,
    path: &str,
) -> anyhow::Result<u64> {
    let mut most = 0;
    for _ in 0..5 {
        let before = cutter.passed();
        check_whole(&ask(stack, speak, host, path)?)?;
        most = most.max(cutter.passed() - before);
    }
    Ok(most)
}

fn ask(stack: &PlainStack, speak: &Speak, host: &str, path: &str) -> anyhow::Result<Answer> {
    let stream = std::net::TcpStream::connect(stack.http())?;
    Connection::open(stream, speak)?.get(host, path)
}

fn check_whole(answer: &Answer) -> anyhow::Result<()> {
    ensure!(answer.status == 200, "status {}", answer.status);
    ensure!(answer.body.len() == BYTES, "a success with {} of {BYTES} bytes", answer.body.len());
    let differs = answer.body.iter().zip(0..).position(|(byte, offset)| *byte != byte_at(offset));
    ensure!(differs.is_none(), "a success that differs at byte {differs:?}");
    Ok(())
}

/// A Service at the cutter, and an Ingress in front of it.
fn manifest(name: &str, port: u16) -> String {
    let protocol = if name == "two" { "kubernetes.io/h2c" } else { "http" };
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
         clusterIPs: [10.96.1.9]\n  ipFamilies: [IPv4]\n  \
         ports: [{{name: http, port: 80, targetPort: {port}, appProtocol: {protocol}}}]\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}-4, namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: IPv4\nendpoints: [{{addresses: [10.244.1.100], conditions: {{ready: true}}}}]\n\
         ports: [{{name: http, port: {port}}}]\n---\n\
         apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
         ingressClassName: cilium\n  rules:\n  - host: {name}.example.com\n    http:\n      paths:\n      \
         - {{path: /, pathType: Prefix, backend: {{service: {{name: {name}, port: {{number: 80}}}}}}}}\n"
    )
}
