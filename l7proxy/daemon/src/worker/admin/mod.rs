//! HTTP on `proxy-admin.sock`, for reading only.
//!
//! The listener is the starter's and only root and our own user may connect; there is nothing here
//! that changes anything, and no key in any answer.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use mesh_l7proxy_wire::Welcome;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixListener;

use super::control::ControlHandle;
use super::controller::Controller;
use super::sandbox::SandboxReport;
use super::xds::XdsState;

/// What the answers are made of.
pub(super) struct Admin {
    pub(super) control: ControlHandle,
    pub(super) xds: XdsState,
    pub(super) welcome: Welcome,
    pub(super) sandbox: SandboxReport,
    pub(super) threads: u16,
    pub(super) started: Instant,
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: UnixListener, admin: Admin) -> std::io::Result<()> {
    let router = Router::new()
        .route("/", get(index))
        .route("/config_dump", get(config_dump))
        .route("/clusters", get(clusters))
        .route("/listeners", get(listeners))
        .route("/stats", get(stats))
        .route("/stats/prometheus", get(prometheus))
        .route("/ready", get(ready))
        .route("/server_info", get(server_info))
        .with_state(Arc::new(admin));
    axum::serve(listener, router).await
}

type Shared = State<Arc<Admin>>;

async fn index() -> &'static str {
    "/config_dump       the resources in use, as Envoy prints them; keys are redacted\n\
     /clusters          clusters and endpoints with their counters\n\
     /listeners         listeners and their sockets, and those without one\n\
     /stats             all numbers, one a line; ?format=json\n\
     /stats/prometheus  the same for a scraper\n\
     /ready             200 LIVE once a configuration serves\n\
     /server_info       version, process, xDS connection, sandbox\n"
}

async fn config_dump(State(admin): Shared) -> Response {
    answer(&admin, |controller| controller.store().config_dump()).await
}

async fn clusters(State(admin): Shared) -> Response {
    answer(&admin, |controller| controller.plane().clusters()).await
}

async fn listeners(State(admin): Shared) -> Response {
    answer(&admin, |controller| {
        json!({ "listeners": controller.plane().listeners(), "without_socket": controller.failed_binds() })
    })
    .await
}

#[derive(Deserialize)]
struct StatsQuery {
    format: Option<String>,
}

async fn stats(State(admin): Shared, Query(query): Query<StatsQuery>) -> Response {
    match query.format.as_deref() {
        None | Some("text") => {
            let stats = admin.control.inspect(|controller| controller.plane().stats()).await;
            text(stats.map(|stats| stat_lines(&stats)))
        }
        Some("json") => answer(&admin, |controller| controller.plane().stats()).await,
        Some("prometheus") => prometheus(State(admin)).await,
        Some(_) => (StatusCode::BAD_REQUEST, "format is text, json or prometheus\n").into_response(),
    }
}

async fn prometheus(State(admin): Shared) -> Response {
    let own = own_metrics(&admin);
    let all = admin
        .control
        .inspect(move |controller| {
            let mut out = own;
            controller.plane().metrics(&mut out);
            out.push_str("# EOF\n");
            out
        })
        .await;
    let Some(all) = all else { return ending() };
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, format)], all).into_response()
}

async fn ready(State(admin): Shared) -> Response {
    match admin.control.inspect(Controller::is_configured).await {
        Some(true) => "LIVE\n".into_response(),
        Some(false) => (StatusCode::SERVICE_UNAVAILABLE, "PRE_INITIALIZING\n").into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "DRAINING\n").into_response(),
    }
}

async fn server_info(State(admin): Shared) -> Response {
    let configured = admin.control.inspect(Controller::is_configured).await;
    let state = match configured {
        Some(true) => "LIVE",
        Some(false) => "PRE_INITIALIZING",
        None => "DRAINING",
    };
    let uptime = admin.started.elapsed().as_secs();
    as_json(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("MILLRACE_BUILD_COMMIT"),
        "state": state,
        "uptime_current_epoch": format!("{uptime}s"),
        "pid": std::process::id(),
        "threads": admin.threads,
        "generation": admin.welcome.generation,
        "restarts": admin.welcome.restarts,
        "xds": admin.xds.report(),
        "sandbox": admin.sandbox,
    }))
}

/// The numbers of the process itself; those of the traffic are the data plane's.
fn own_metrics(admin: &Admin) -> String {
    let connected = u8::from(admin.xds.is_connected());
    let (uptime, generation, restarts) =
        (admin.started.elapsed().as_secs(), admin.welcome.generation, admin.welcome.restarts);
    format!(
        "# TYPE envoy_control_plane_connected_state gauge\n\
         envoy_control_plane_connected_state {connected}\n\
         # TYPE envoy_server_uptime gauge\n\
         envoy_server_uptime {uptime}\n\
         # TYPE millrace_proxy_worker_generation gauge\n\
         millrace_proxy_worker_generation {generation}\n\
         # TYPE millrace_proxy_worker_restarts counter\n\
         millrace_proxy_worker_restarts_total {restarts}\n"
    )
}

/// `{"stats":[{"name":"a.b","value":1}]}` as `a.b: 1` lines.
fn stat_lines(stats: &Value) -> String {
    let empty = Vec::new();
    let entries = stats.get("stats").and_then(Value::as_array).unwrap_or(&empty);
    let line = |entry: &Value| Some(format!("{}: {}\n", entry.get("name")?.as_str()?, entry.get("value")?));
    entries.iter().filter_map(line).collect()
}

async fn answer(admin: &Admin, read: impl FnOnce(&Controller) -> Value + Send + 'static) -> Response {
    match admin.control.inspect(read).await {
        Some(value) => as_json(&value),
        None => ending(),
    }
}

fn text(body: Option<String>) -> Response {
    body.map_or_else(ending, IntoResponse::into_response)
}

fn as_json(value: &Value) -> Response {
    let body = format!("{value:#}\n");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn ending() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the worker is about to end\n").into_response()
}

#[cfg(test)]
mod tests;
