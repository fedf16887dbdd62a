//! A real Envoy as a client of an xDS server of ours.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;

use crate::process::Guard;

/// Names the binary. `cargo xtask test` sets it where the binary is in the cache.
pub const BINARY: &str = "MILLRACE_ENVOY";

/// The variant of ADS that it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ads {
    /// Incremental.
    Delta,
    /// State of the world.
    StateOfTheWorld,
}

/// The binary, or a loud word that the test did not run.
pub fn binary(test: &str) -> Option<PathBuf> {
    let path = std::env::var_os(BINARY).map(PathBuf::from);
    if path.is_none() {
        // Past the capture of the test harness: whoever runs the tests has to see it.
        let _ = writeln!(io::stderr(), "SKIPPED: {test}: {BINARY} does not name an Envoy binary");
    }
    path
}

/// An Envoy that takes everything from a server; ended and cleaned up when dropped.
#[derive(Debug)]
pub struct Envoy {
    // Before its folder: it has files open there.
    _process: Guard,
    folder: Folder,
}

/// Removed when dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Envoy {
    /// Starts it with one thread, connected to the server at `xds_socket`.
    pub fn start(binary: &Path, xds_socket: &Path, ads: Ads) -> anyhow::Result<Self> {
        let folder = Folder(unique_folder()?);
        let bootstrap = folder.0.join("bootstrap.json");
        let admin = folder.0.join("admin.sock");
        fs::write(&bootstrap, self::bootstrap(xds_socket, &admin, ads).to_string())?;
        let mut command = Command::new(binary);
        command.args(["--log-level", "warning", "--concurrency", "1", "--use-dynamic-base-id", "-c"]);
        command.arg(&bootstrap).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(folder.0.join("envoy.log"))?);
        let process = Guard::start(&mut command).context("Envoy does not start")?;
        Ok(Self { _process: process, folder })
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.0.join("envoy.log")).unwrap_or_default()
    }

    /// What its admin socket answers to a `GET`; empty while it does not.
    pub async fn admin(&self, path: &str) -> String {
        self.try_admin(path).await.unwrap_or_default()
    }

    async fn try_admin(&self, path: &str) -> anyhow::Result<String> {
        let stream = tokio::net::UnixStream::connect(self.folder.0.join("admin.sock")).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = hyper::Request::get(path).header("host", "envoy").body(Empty::<Bytes>::new())?;
        let body = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
        connection.abort();
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}

/// A folder that only this user can look into.
fn unique_folder() -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("mr-envoy-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::DirBuilder::new().mode(0o700).create(&folder).context("no folder for Envoy")?;
    Ok(folder)
}

fn bootstrap(xds_socket: &Path, admin: &Path, ads: Ads) -> serde_json::Value {
    let api_type = match ads {
        Ads::Delta => "DELTA_GRPC",
        Ads::StateOfTheWorld => "GRPC",
    };
    let http2 = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": {} },
    });
    let endpoint = json!({ "endpoint": { "address": { "pipe": { "path": xds_socket } } } });
    json!({
        "node": { "id": "envoy", "cluster": "mesh" },
        "admin": { "address": { "pipe": { "path": admin, "mode": 0o600 } } },
        "dynamic_resources": {
            "ads_config": {
                "api_type": api_type,
                "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds" } }],
            },
            "cds_config": { "ads": {}, "resource_api_version": "V3" },
            "lds_config": { "ads": {}, "resource_api_version": "V3" },
        },
        "static_resources": { "clusters": [{
            "name": "xds",
            "type": "STATIC",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2,
            },
            "load_assignment": { "cluster_name": "xds", "endpoints": [{ "lb_endpoints": [endpoint] }] },
        }]},
    })
}
