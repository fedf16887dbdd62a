//! The least proxy that pingora makes: one thread, one backend, the forwarding headers that its peers set.
//!
//! `pingora-peer LISTEN BACKEND`, both as address and port. Speaks HTTP/1, and HTTP/2 with prior knowledge.

use std::net::SocketAddr;
use std::process::ExitCode;

use async_trait::async_trait;
use pingora_core::apps::HttpServerOptions;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use pingora_proxy::{ProxyHttp, ProxyServiceBuilder, Session};

/// Everything goes to one address.
struct ToBackend(SocketAddr);

#[async_trait]
impl ProxyHttp for ToBackend {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        (): &mut Self::CTX,
    ) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        (): &mut Self::CTX,
    ) -> pingora_core::Result<()> {
        if let Some(client) = session.client_addr().and_then(|address| address.as_inet()) {
            request.insert_header("x-forwarded-for", client.ip().to_string())?;
        }
        request.insert_header("x-forwarded-proto", "http")
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(Ok(backend))) =
        (arguments.next(), arguments.next().map(|text| text.parse::<SocketAddr>()))
    else {
        eprintln!("usage: pingora-peer LISTEN BACKEND");
        return ExitCode::FAILURE;
    };
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 512, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    let builder = ProxyServiceBuilder::new(&server.configuration, ToBackend(backend));
    let mut service = builder.server_options(options).build();
    service.add_tcp(&listen);
    server.add_service(service);
    server.run(RunArgs::default());
    ExitCode::SUCCESS
}
