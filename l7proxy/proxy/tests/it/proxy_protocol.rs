//! Clients that a balancer in front names.

use std::net::SocketAddr;

use http::Response;

use crate::harness::{Backend, Proxy, cluster, endpoints, exchange_raw, full, listener, routes};

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

pub(crate) fn filter(options: &str) -> String {
    format!(
        r#"{{ name: proxy_protocol, typed_config: {{
            "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol, {options} }} }}"#
    )
}

/// A listener behind a balancer, in front of an endpoint that answers with what it was told of the client.
async fn behind_a_balancer(options: &str) -> (Proxy, SocketAddr, Backend) {
    let backend = Backend::http1(|seen| {
        Response::new(full(format!("[client {}]", seen.header("x-forwarded-for").unwrap_or("nobody"))))
    })
    .await;
    let mut proxy = Proxy::start();
    let filters = format!("listener_filters: [ {} ],", filter(options));
    proxy.apply(&[
        cluster("backend", ""),
        endpoints("backend", &[backend.address]),
        listener("web", "127.0.0.1", 0, &filters, &[("", "", "web", "use_remote_address: true,")]),
        routes("web", r#"[{ match: { prefix: "/" }, route: { cluster: backend } }]"#),
    ]);
    let address = proxy.listen("web");
    (proxy, address, backend)
}

#[tokio::test]
async fn the_endpoint_is_told_the_client_of_the_header() {
    let (_proxy, address, _backend) = behind_a_balancer("").await;
    for (header, client) in [
        ("PROXY TCP4 192.0.2.77 203.0.113.1 4000 80\r\n", "[client 192.0.2.77]"),
        ("PROXY TCP6 2001:db8::77 2001:db8::1 4000 80\r\n", "[client 2001:db8::77]"),
        // The balancer's own connection, such as a health check.
        ("PROXY UNKNOWN\r\n", "[client 127.0.0.1]"),
    ] {
        let reply = exchange_raw(address, &format!("{header}{REQUEST}")).await;
        assert!(reply.contains(client), "{header}: {reply}");
    }
}

#[tokio::test]
async fn a_connection_without_the_header_is_closed_unless_it_may_be_missing() {
    let (proxy, address, backend) = behind_a_balancer("").await;
    assert_eq!(exchange_raw(address, REQUEST).await, "");
    assert_eq!(exchange_raw(address, &format!("PROXY TCP4 bad\r\n{REQUEST}")).await, "");
    assert_eq!(proxy.metric("envoy_listener_proxy_proto_error_total", 2.0).await, 2.0);
    assert_eq!(backend.connections(), 0);

    let (_proxy, address, _backend) = behind_a_balancer("allow_requests_without_proxy_protocol: true").await;
    let reply = exchange_raw(address, REQUEST).await;
    assert!(reply.contains("[client 127.0.0.1]"), "{reply}");
    let reply =
        exchange_raw(address, &format!("PROXY TCP4 192.0.2.77 203.0.113.1 4000 80\r\n{REQUEST}")).await;
    assert!(reply.contains("[client 192.0.2.77]"), "{reply}");
}
