//! Envoy, fed by the same xDS server with the same resources.

use std::fs;
use std::path::Path;
use std::process::Command;

use mesh_xds_proto::route::RouteConfiguration;
use serde_json::json;

use super::{ControlPlane, Running, Setting, folder, free, spawn};
use crate::resources::Fixed;

pub(super) fn start(binary: &Path, setting: Setting, table: &RouteConfiguration) -> anyhow::Result<Running> {
    let folder = folder()?;
    let front = free()?;
    let socket = folder.path().join("run/xds.sock");
    let control = ControlPlane::start(&socket, Fixed::new(front, setting.backend, setting.log)?, table)?;
    let ads = json!({ "ads": {}, "resource_api_version": "V3" });
    let bootstrap = json!({
        "node": { "id": "envoy", "cluster": "bench" },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds" } }],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": { "clusters": [{
            "name": "xds",
            "type": "STATIC",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http2_protocol_options": {} },
                },
            },
            "load_assignment": { "cluster_name": "xds", "endpoints": [{ "lb_endpoints": [{ "endpoint": {
                "address": { "pipe": { "path": socket } },
            } }] }] },
        }] },
    });
    let path = folder.path().join("bootstrap.json");
    fs::write(&path, bootstrap.to_string())?;
    let mut command = Command::new(binary);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c"]).arg(&path);
    let process = spawn(&mut command, &folder)?;
    Ok(Running {
        name: "envoy".to_owned(),
        http1: front,
        http2: front,
        process,
        folder,
        control: Some(control),
    })
}
