//! Cases as they are written down.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Map, Value};

/// One configuration and the requests that are sent to it.
///
/// What is Envoy's is written as Envoy writes it (JSON names of the protobuf fields, in YAML) and laid over
/// a small default: a listener with one connection manager, its route table, one cluster for each backend.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// The file's name.
    #[serde(skip)]
    pub(crate) name: String,
    /// What it covers, as a sentence.
    pub(crate) about: String,
    /// Over the default `Listener`.
    #[serde(default)]
    pub(crate) listener: Map<String, Value>,
    /// Over the default `HttpConnectionManager` of every chain.
    #[serde(default)]
    pub(crate) manager: Map<String, Value>,
    /// Instead of the one chain without a match.
    #[serde(default)]
    pub(crate) chains: Vec<Chain>,
    /// `Route`s of the virtual host for all domains, where there are no `virtual_hosts`.
    #[serde(default)]
    pub(crate) routes: Vec<Value>,
    /// `VirtualHost`s of the table `web`.
    #[serde(default)]
    pub(crate) virtual_hosts: Vec<Value>,
    /// Over the table `web`.
    #[serde(default)]
    pub(crate) route_configuration: Map<String, Value>,
    /// More tables, by name: what `virtual_hosts` is for `web`.
    #[serde(default)]
    pub(crate) tables: BTreeMap<String, Vec<Value>>,
    /// Over the default `Cluster` of this name; `a` and `b` are there in any case.
    #[serde(default)]
    pub(crate) clusters: BTreeMap<String, Map<String, Value>>,
    /// Backends behind a cluster, if not the one of its name. `refused` is an address where nobody listens.
    #[serde(default)]
    pub(crate) endpoints: BTreeMap<String, Vec<String>>,
    /// What backends do, if not answer 200 with their name.
    #[serde(default)]
    pub(crate) backends: BTreeMap<String, Backend>,
    /// Hosts of certificates, by the name of their secret.
    #[serde(default)]
    pub(crate) certificates: BTreeMap<String, Vec<String>>,
    /// Sent one after the other, each on a connection of its own.
    pub(crate) requests: Vec<Request>,
    /// Differences that are meant to be.
    #[serde(default)]
    pub(crate) differences: Vec<Difference>,
}

/// A filter chain.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chain {
    /// Its `FilterChainMatch`.
    #[serde(default, rename = "match")]
    pub(crate) matching: Map<String, Value>,
    /// Names of its secrets; clear text without any.
    #[serde(default)]
    pub(crate) certificates: Vec<String>,
    /// Protocols for ALPN.
    #[serde(default)]
    pub(crate) alpn: Vec<String>,
    /// Its route table.
    #[serde(default = "web")]
    pub(crate) table: String,
}

fn web() -> String {
    "web".to_owned()
}

/// A backend that speaks HTTP/1 and HTTP/2 in clear text.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backend {
    /// Answers by path (without query), in turn; the last one stays.
    #[serde(default)]
    pub(crate) replies: BTreeMap<String, Vec<Reply>>,
    /// Instead of all that: these bytes after each request's head, then the end of the connection.
    pub(crate) raw: Option<String>,
}

/// An answer of a backend.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reply {
    #[serde(default = "ok")]
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) body: String,
    /// Without a length, as chunks or frames.
    #[serde(default)]
    pub(crate) chunked: bool,
    #[serde(default)]
    pub(crate) trailers: Vec<(String, String)>,
    /// How long it waits before it answers.
    #[serde(default)]
    pub(crate) delay_ms: u64,
    /// How long it waits in the middle of the body.
    #[serde(default)]
    pub(crate) pause_ms: u64,
    /// Break off in the middle of the body.
    #[serde(default)]
    pub(crate) break_off: bool,
    /// Switch protocols, then echo.
    #[serde(default)]
    pub(crate) upgrade: Option<String>,
}

fn ok() -> u16 {
    200
}

/// A request, and what both proxies have to answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// To speak of it; its number when left out.
    #[serde(default)]
    pub(crate) name: String,
    /// These bytes in place of all the rest. Without any `\r` each end of line becomes `\r\n`.
    pub(crate) raw: Option<String>,
    #[serde(default = "get")]
    pub(crate) method: String,
    #[serde(default = "root")]
    pub(crate) path: String,
    #[serde(default = "host")]
    pub(crate) host: String,
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) body: String,
    #[serde(default)]
    pub(crate) chunked: bool,
    #[serde(default)]
    pub(crate) trailers: Vec<(String, String)>,
    /// HTTP/2 with prior knowledge, or by ALPN.
    #[serde(default)]
    pub(crate) http2: bool,
    /// Over TLS with this SNI; none when empty.
    pub(crate) tls: Option<String>,
    /// Sent after the protocol was switched; the echo is compared.
    pub(crate) after_upgrade: Option<String>,
    /// The status that both have to answer, so that a case cannot hold by failing twice; 0 is a connection
    /// that ends without an answer.
    pub(crate) status: u16,
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

fn host() -> String {
    "a.test".to_owned()
}

/// A difference that is meant to be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Difference {
    /// The request's name; every request when left out.
    pub(crate) request: Option<String>,
    /// Beginnings of what differs, such as `response.headers.server`.
    pub(crate) at: Vec<String>,
    /// Why. Printed with each run.
    pub(crate) reason: String,
}

/// All cases of a folder, by name.
pub(crate) fn load(folder: &Path) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            cases.push(read(&path).with_context(|| path.display().to_string())?);
        }
    }
    cases.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(cases)
}

fn read(path: &Path) -> anyhow::Result<Case> {
    let mut case: Case = serde_saphyr::from_str(&fs::read_to_string(path)?)?;
    case.name = path.file_stem().context("a case has a name")?.to_string_lossy().into_owned();
    for (index, request) in case.requests.iter_mut().enumerate() {
        if request.name.is_empty() {
            request.name = format!("{}", index + 1);
        }
    }
    Ok(case)
}
