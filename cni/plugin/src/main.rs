//! `millrace-cni`: the CNI plugin. The runtime starts it for every pod that comes or goes.
//!
//! In: `CNI_*` variables and a configuration on standard input. Out: the result or the error on standard output.
//! It opens the pod's network namespace and a netlink socket inside of it and hands both to the agent, which
//! does the rest. It runs for milliseconds, blocks, and keeps no state.

mod namespace;

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use mesh_cni_wire::{CallError, Code, Command, Failure, Request, SOCKET, VERSIONS, call};
use serde_json::{Value, json};

/// How long the agent may take. The kubelet gives a sandbox two minutes.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where the agent's socket lies unless the configuration says otherwise (`agentSocket`).
const RUN_DIR: &str = "/run/millrace";

/// The longest configuration in bytes.
const LONGEST: u64 = 1024 * 1024;

fn main() -> ExitCode {
    let mut version = VERSIONS[VERSIONS.len() - 1].to_owned();
    let (document, code) = match run(&mut version) {
        Ok(document) => (document, ExitCode::SUCCESS),
        Err(failure) => (failure.document(&version), ExitCode::FAILURE),
    };
    // Only ADD and VERSION have something to say; nobody is left to hear of a broken pipe.
    if !document.is_null() {
        let _ = std::io::stdout().write_all(format!("{document}\n").as_bytes());
    }
    code
}

/// Does what the runtime asks, and tells by `version` in which version it wants the answer.
fn run(version: &mut String) -> Result<Value, Failure> {
    let name = variable("CNI_COMMAND")?;
    if name == "VERSION" {
        // Its configuration says nothing that matters here; whoever writes it should not meet a closed pipe.
        let _ = std::io::copy(&mut std::io::stdin().take(LONGEST), &mut std::io::sink());
        return Ok(json!({"cniVersion": version, "supportedVersions": VERSIONS}));
    }
    let config = config()?;
    if let Some(asked) = config["cniVersion"].as_str() {
        if !VERSIONS.contains(&asked) {
            let msg =
                format!("cniVersion {asked} of the network configuration is none of {}", VERSIONS.join(", "));
            return Err(Failure::new(Code::IncompatibleVersion, msg));
        }
        asked.clone_into(version);
    }
    let command = Command::named(&name).ok_or_else(|| {
        let msg = format!("CNI_COMMAND is {name}; it is one of ADD, DEL, CHECK, GC, STATUS, VERSION");
        Failure::new(Code::InvalidEnvironment, msg)
    })?;
    let is_about_a_pod = !matches!(command, Command::Gc | Command::Status);
    let about = |key| if is_about_a_pod { variable(key) } else { Ok(String::new()) };
    let optional = |key| std::env::var(key).unwrap_or_default();
    let request = Request {
        command,
        container_id: about("CNI_CONTAINERID")?,
        interface: about("CNI_IFNAME")?,
        netns: if command.enters() { variable("CNI_NETNS")? } else { optional("CNI_NETNS") },
        arguments: optional("CNI_ARGS"),
        config,
    };
    let descriptors = match command.enters() {
        true => enter(&request.netns)?,
        false => Vec::new(),
    };
    ask(&request, &descriptors)
}

fn ask(request: &Request, descriptors: &[OwnedFd]) -> Result<Value, Failure> {
    let socket = match request.config["agentSocket"].as_str() {
        Some(path) => PathBuf::from(path),
        None => Path::new(RUN_DIR).join(SOCKET),
    };
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let answered = call(&socket, request, &borrowed, PATIENCE);
    answered.unwrap_or_else(|error| {
        let code = match (&error, request.command) {
            (_, Command::Status) => Code::NotAvailable,
            (CallError::Unreadable(_), _) => Code::Decoding,
            _ => Code::TryAgainLater,
        };
        let fix = "the runtime tries again; see whether the mesh-agent of this node runs, and its log";
        Err(Failure { details: fix.to_owned(), ..Failure::new(code, format!("millrace: {error}; {fix}")) })
    })
}

fn variable(key: &str) -> Result<String, Failure> {
    match std::env::var(key) {
        Ok(value) if !value.is_empty() => Ok(value),
        _ => Err(Failure::new(Code::InvalidEnvironment, format!("{key} is not set, or no text"))),
    }
}

fn config() -> Result<Value, Failure> {
    let mut text = String::new();
    let io = |error| Failure::new(Code::Io, format!("cannot read the network configuration: {error}"));
    std::io::stdin().take(LONGEST).read_to_string(&mut text).map_err(io)?;
    let config: Value = serde_json::from_str(&text).map_err(|error| {
        Failure::new(Code::Decoding, format!("the network configuration is no JSON: {error}"))
    })?;
    match config.is_object() {
        true => Ok(config),
        false => Err(Failure::new(Code::Decoding, "the network configuration is no JSON object")),
    }
}

/// The namespace, and a netlink socket inside of it.
fn enter(netns: &str) -> Result<Vec<OwnedFd>, Failure> {
    namespace::enter(Path::new(netns)).map_err(|error| {
        let msg = format!("cannot enter the network namespace {netns} (CNI_NETNS): {error}");
        Failure::new(Code::InvalidEnvironment, msg)
    })
}
