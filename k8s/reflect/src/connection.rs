//! The client, made anew when the server or the credentials are others.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use parking_lot::Mutex;
use tokio::time::timeout;
use tower::{BoxError, ServiceBuilder};

use crate::access::{AccessError, ApiServer};
use crate::body;
use crate::failure::{Cause, Failure};

/// A server that is silent on a connection is asked whether it is there after this long, ...
const PROBE_AFTER: Duration = Duration::from_secs(30);
/// ... and has this long to answer.
const PROBE_ANSWER: Duration = Duration::from_secs(15);

/// A way to the server, shared by all reflectors.
#[derive(Debug)]
pub(crate) struct Connection {
    access: ApiServer,
    current: Mutex<Arc<Current>>,
}

/// The client of the moment.
pub(crate) struct Current {
    /// To ask with.
    pub(crate) client: Client,
    /// Where.
    pub(crate) url: Uri,
    /// Counts the clients.
    turn: usize,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("url", &self.url).field("turn", &self.turn).finish_non_exhaustive()
    }
}

impl Connection {
    /// Reads the access; connects to nothing yet.
    pub(crate) async fn new(access: ApiServer) -> Result<Self, AccessError> {
        let current = Arc::new(Current::make(&access, 0).await?);
        Ok(Self { access, current: Mutex::new(current) })
    }

    /// The client to ask with now.
    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.lock().clone()
    }

    /// `failed` did not work: reads the access again and goes to the next address, unless somebody did so
    /// already. On an error the one that failed stays.
    pub(crate) async fn renew(&self, failed: &Current) -> Result<(), AccessError> {
        if self.current().turn != failed.turn {
            return Ok(());
        }
        let next = Arc::new(Current::make(&self.access, failed.turn + 1).await?);
        let mut current = self.current.lock();
        if current.turn == failed.turn {
            *current = next;
        }
        Ok(())
    }
}

impl Current {
    async fn make(access: &ApiServer, turn: usize) -> Result<Self, AccessError> {
        let config = access.read(turn).await?;
        let url = config.cluster_url.clone();
        let client = client(&config).map_err(|source| AccessError::Client { url: url.clone(), source })?;
        Ok(Self { client, url, turn })
    }
}

impl Current {
    /// Sends a request and looks at the head of the answer. `what` names verb and resource, as a rule of a role
    /// would.
    pub(crate) async fn ask(
        &self,
        request: Request<Vec<u8>>,
        within: Duration,
        what: &str,
    ) -> Result<Response<Body>, Failure> {
        let Ok(answer) = timeout(within, self.client.send(request.map(Body::from))).await else {
            let message = format!("{} did not answer within {} s", self.url, within.as_secs());
            return Err(Failure::new(Cause::Unreachable, message, "look at the load of the API server"));
        };
        let response = answer.map_err(|error| Failure::of_transport(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let body = timeout(within, body::start(response)).await.unwrap_or_default();
        Err(Failure::of_answer(status, &headers, &body, what))
    }
}

/// A client like kube's own, but with HTTP/2 where the server has it (all watches on one connection) and with
/// probes, so that a server which vanished is noticed within a minute.
fn client(config: &Config) -> Result<Client, BoxError> {
    // kube asks rustls for a provider without naming one. An error says that there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_keepalive(Some(PROBE_AFTER));
    connector.set_keepalive_interval(Some(PROBE_ANSWER / 3));
    connector.set_keepalive_retries(Some(3));
    connector.set_tcp_user_timeout(Some(PROBE_AFTER + PROBE_ANSWER));
    let builder =
        HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    let builder = match &config.tls_server_name {
        Some(name) => {
            builder.with_server_name_resolver(FixedServerNameResolver::new(name.clone().try_into()?))
        }
        None => builder,
    };
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(PROBE_AFTER)
        .http2_keep_alive_timeout(PROBE_ANSWER)
        .build::<_, Body>(builder.enable_all_versions().wrap_connector(connector));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(Client::new(service, config.default_namespace.clone()))
}
