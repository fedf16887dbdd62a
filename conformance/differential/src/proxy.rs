//! A proxy that takes a case from a server of ours and answers its requests.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use mesh_testkit::envoy::{Ads, Envoy};
use mesh_testkit::process::Guard;
use mesh_xds::server::{ResourceCache, Server, ServerConfig};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::backend::Backends;
use crate::case::Case;
use crate::client;
use crate::observed::{Exchange, Headers};
use crate::resources::{self, Certificates};

/// How long a proxy may take until it serves. Not a promise: the machine may be busy.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a backend may wait for the rest of a request after the client has its answer.
const BODY_WITHIN: Duration = Duration::from_secs(2);

/// Which proxy.
#[derive(Debug, Clone)]
pub(crate) enum Program {
    /// Ours: the path of `l7proxy`.
    Millrace(PathBuf),
    /// Envoy, and the variant of ADS that it speaks.
    Envoy(PathBuf, Ads),
}

/// A proxy's processes, ended with it.
enum Running {
    Millrace { _starter: Guard, log: PathBuf },
    Envoy(Envoy),
}

impl Running {
    fn start(program: &Program, folder: &Path, xds_socket: &Path) -> anyhow::Result<Self> {
        match program {
            Program::Envoy(binary, ads) => Ok(Running::Envoy(Envoy::start(binary, xds_socket, *ads)?)),
            Program::Millrace(binary) => {
                let log = folder.join("proxy.log");
                let mut command = Command::new(binary);
                command.args(["starter", "--worker-threads", "1", "--log", "warn"]);
                command.arg("--run-dir").arg(folder.join("run")).arg("--xds-socket").arg(xds_socket);
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
                let starter = Guard::start(&mut command)
                    .with_context(|| format!("{} does not start", binary.display()))?;
                Ok(Running::Millrace { _starter: starter, log })
            }
        }
    }

    fn log(&self) -> String {
        match self {
            Running::Millrace { log, .. } => fs::read_to_string(log).unwrap_or_default(),
            Running::Envoy(envoy) => envoy.log(),
        }
    }
}

/// Gives a new proxy the resources of a case and sends its requests, one after the other.
pub(crate) async fn run(
    program: &Program,
    case: &Case,
    certificates: &Certificates,
) -> anyhow::Result<Vec<Exchange>> {
    let clusters = resources::cluster_names(case);
    let named = clusters.iter().flat_map(|cluster| resources::endpoints_of(case, cluster));
    let backends = Backends::start(named, &case.backends).await?;
    let port = free_port()?;
    let set = resources::build(case, port, &backends.addresses, certificates)?;

    let folder = TempDir::with_prefix("mr-diff-")?;
    let cache = ResourceCache::default();
    let revision = cache.publish(set).revision;
    let server = Server::bind(ServerConfig::new(folder.path().join("xds/xds.sock")), cache)?;
    let handle = server.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async { drop(stopped.await) }));
    let running = Running::start(program, folder.path(), &folder.path().join("xds/xds.sock"))?;

    let mut outcome: anyhow::Result<Vec<Exchange>> = async {
        let settled = tokio::time::timeout(READY_WITHIN, handle.settled(revision)).await;
        settled.with_context(|| format!("it did not take the resources:\n{}", running.log()))?;
        let refused: Vec<String> = handle
            .rejections()
            .into_iter()
            .map(|rejection| format!("{}: {}", rejection.name, rejection.nack.message))
            .collect();
        if !refused.is_empty() {
            bail!("it refused {}", refused.join("; "));
        }
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        listening(address).await.with_context(|| format!("it does not listen:\n{}", running.log()))?;
        let mut exchanges = Vec::new();
        for request in &case.requests {
            let response = client::send(address, request, certificates)
                .await
                .with_context(|| format!("request {}\n{}", request.name, running.log()))?;
            let seen = backends.record.take(BODY_WITHIN).await;
            exchanges.push(Exchange { response, backends: seen });
        }
        Ok(exchanges)
    }
    .await;
    drop(running);
    if let Ok(exchanges) = &mut outcome {
        // What reached a backend after its request was answered, and was not seen with the next one.
        let late = backends.record.take(BODY_WITHIN).await;
        exchanges.last_mut().into_iter().for_each(|last| last.backends.extend(late.iter().cloned()));
        exchanges.iter_mut().for_each(|exchange| without_port(exchange, port));
    }
    let _ = stop.send(());
    serving.await??;
    outcome
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn listening(address: SocketAddr) -> anyhow::Result<()> {
    let end = tokio::time::Instant::now() + READY_WITHIN;
    loop {
        match TcpStream::connect(address).await {
            Ok(_) => return Ok(()),
            Err(error) if tokio::time::Instant::now() > end => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// The two proxies listen on different ports; where one shows (a redirect may name it), it is `$PORT`.
fn without_port(exchange: &mut Exchange, port: u16) {
    let (shown, named) = (format!(":{port}"), ":$PORT");
    let clean = |headers: &mut Headers| {
        headers.values_mut().flatten().for_each(|value| *value = value.replace(&shown, named));
    };
    clean(&mut exchange.response.headers);
    exchange.backends.iter_mut().for_each(|seen| clean(&mut seen.headers));
}
