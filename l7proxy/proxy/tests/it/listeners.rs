//! Hand-off by original destination, and listeners that come and go.

use http::{Request, Response};
use mesh_xds_proto::type_urls;

use crate::harness::{
    Backend, Client, Proxy, cluster, empty, endpoints, eventually, exchange_raw, full, http_listener,
    listener, routes,
};

/// The entry listener as redirection uses it. On loopback, a socket bound to all addresses sees the
/// destination as its own address just as one that got the connection by `bpf_sk_assign`.
const ENTRY: &str = r#"{ "@type": type.googleapis.com/envoy.config.listener.v3.Listener, name: redirect,
    address: { socket_address: { address: "127.0.0.1", port_value: 15001 } }, transparent: true, use_original_dst: true,
    listener_filters: [ { name: original_dst, typed_config: {
        "@type": type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst } } ],
    filter_chains: [ { filters: [ { name: close, typed_config: {
        "@type": type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config,
        response: { inline_string: "nobody lives here" } } } ] } ] }"#;

fn answer(name: &str, status: u16) -> String {
    routes(name, &format!(r#"[ {{ match: {{ prefix: "/" }}, direct_response: {{ status: {status} }} }} ]"#))
}

#[tokio::test]
async fn original_destination_chooses_the_listener() {
    let mut proxy = Proxy::start();
    let (_, entry) = proxy.listen_at("redirect", "0.0.0.0:0");
    let port = entry.port();
    let hidden = "bind_to_port: false,";
    proxy.apply(&[
        ENTRY.to_owned(),
        listener("one", "127.10.0.1", port, hidden, &[("", "", "one", "")]),
        listener(
            "two",
            "127.10.0.2",
            port,
            &format!(
                "{hidden} additional_addresses: [ {{ address: {{ socket_address: {{ address: 127.10.0.3, port_value: {port} }} }} }} ],"
            ),
            &[("", "", "two", "")],
        ),
        answer("one", 201),
        answer("two", 202),
    ]);
    for (host, status) in [("127.10.0.1", 201), ("127.10.0.2", 202), ("127.10.0.3", 202)] {
        let mut client = Client::connect(format!("{host}:{port}").parse().unwrap()).await;
        assert_eq!(client.get("/").await.status.as_u16(), status, "{host}");
    }
    let reply = exchange_raw(format!("127.10.0.4:{port}").parse().unwrap(), "").await;
    assert_eq!(reply, "nobody lives here");
    assert_eq!(proxy.metric("envoy_listener_no_original_dst_total", 1.0).await, 1.0);
}

#[tokio::test]
async fn binds_name_threads_for_the_entry_and_all_for_others() {
    let mut proxy = Proxy::start();
    proxy.apply(&[
        ENTRY.replace(
            "transparent: true",
            "additional_addresses: [ { address: { socket_address: { address: \"::1\", port_value: 15001 } } }, \
             { address: { socket_address: { address: \"127.0.0.1\", port_value: 15002 } } } ], transparent: true",
        ),
        listener("hidden", "127.10.0.1", 80, "bind_to_port: false,", &[("", "", "one", "")]),
        listener("plain", "127.0.0.1", 8080, "", &[("", "", "one", "")]),
    ]);
    let binds: Vec<_> = proxy
        .store
        .binds()
        .into_iter()
        .map(|bind| (bind.listener, bind.address.to_string(), bind.transparent, bind.thread))
        .collect();
    assert_eq!(
        binds,
        [
            ("plain".to_owned(), "127.0.0.1:8080".to_owned(), false, None),
            ("redirect".to_owned(), "127.0.0.1:15001".to_owned(), true, Some(0)),
            ("redirect".to_owned(), "127.0.0.1:15002".to_owned(), true, Some(1)),
            ("redirect".to_owned(), "[::1]:15001".to_owned(), true, Some(0)),
        ]
    );
}

#[tokio::test]
async fn changed_listener_lets_its_connections_finish() {
    let backend = Backend::saying("hello").await;
    let (mut proxy, address) = Proxy::forwarding(backend.address);
    let mut client = Client::connect(address).await;
    assert_eq!(client.get("/").await.header("server"), Some("envoy"));
    proxy.apply(&[http_listener("web", "server_name: changed,")]);
    // Settings hold for the life of a connection, so this one is told to end. No request is lost.
    eventually("the new settings", || {
        (!proxy.store.snapshot().listener("web").unwrap().name.is_empty()).then_some(())
    })
    .await;
    let mut reply = client.get("/").await;
    for _ in 0..1000 {
        if reply.header("connection") == Some("close") {
            break;
        }
        reply = client.get("/").await;
    }
    assert_eq!(reply.header("connection"), Some("close"));
    assert_eq!(Client::connect(address).await.get("/").await.header("server"), Some("changed"));
}

#[tokio::test]
async fn connection_of_a_listener_that_goes_by_another_table_is_answered_by_that() {
    let mut proxy = Proxy::start();
    proxy.apply(&[http_listener("web", ""), answer("web", 201)]);
    let address = proxy.listen("web");
    let mut client = Client::connect(address).await;
    assert_eq!(client.get("/").await.status.as_u16(), 201);
    proxy.replace(&[listener("web", "127.0.0.1", 0, "", &[("", "", "other", "")]), answer("other", 202)]);
    assert!(proxy.store.snapshot().routes("web").is_none(), "the old table is forgotten");
    // The change may take a moment to arrive; no request is answered by neither table.
    let mut reply = client.get("/").await;
    for _ in 0..1000 {
        if reply.status.as_u16() != 201 {
            break;
        }
        reply = client.get("/").await;
    }
    assert_eq!(reply.status.as_u16(), 202);
    assert_eq!(reply.header("connection"), Some("close"));
}

#[tokio::test]
async fn removed_listener_closes_idle_connections_and_its_socket() {
    let backend = Backend::saying("hello").await;
    let mut proxy = Proxy::start();
    proxy.apply(&[
        cluster("backend", ""),
        endpoints("backend", &[backend.address]),
        http_listener("web", ""),
        routes("web", r#"[{ match: { prefix: "/" }, route: { cluster: backend } }]"#),
    ]);
    let (bind, address) = proxy.listen_at("web", "127.0.0.1:0");
    let mut client = Client::connect(address).await;
    assert_eq!(client.get("/").await.text(), "hello");
    proxy.remove(type_urls::LISTENER, "web");
    proxy.plane.remove_listener(&bind);
    eventually("the connection closes", || client.is_closed().then_some(())).await;
    eventually("the socket closes", || std::net::TcpStream::connect(address).is_err().then_some(())).await;
}

#[tokio::test]
async fn client_address_is_kept_for_clients_that_are_not_local() {
    let backend = Backend::http1(|seen| Response::new(full(seen.peer.ip().to_string()))).await;
    let mut proxy = Proxy::start();
    let keep = r#"listener_filters: [ { name: original_src, typed_config: {
        "@type": type.googleapis.com/envoy.extensions.filters.listener.original_src.v3.OriginalSrc, mark: 9 } } ],"#;
    proxy.apply(&[
        cluster("backend", ""),
        endpoints("backend", &[backend.address]),
        listener("web", "127.0.0.1", 0, keep, &[("", "", "web", "")]),
        routes("web", r#"[{ match: { prefix: "/" }, route: { cluster: backend } }]"#),
    ]);
    let address = proxy.listen("web");
    // A loopback client speaks as the proxy itself.
    let mut client = Client::connect(address).await;
    let request = Request::get("/").header("host", "a").body(empty()).unwrap();
    assert_eq!(client.send(request).await.unwrap().text(), "127.0.0.1");
}

#[tokio::test]
async fn threads_serve_their_own_sockets_and_their_counters_add_up() {
    let backend = Backend::saying("hello").await;
    let mut proxy = Proxy::start_with(2);
    proxy.apply(&[
        cluster("backend", ""),
        endpoints("backend", &[backend.address]),
        http_listener("web", ""),
        routes("web", r#"[{ match: { prefix: "/" }, route: { cluster: backend } }]"#),
    ]);
    for thread in [0, 1] {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let bind = mesh_l7proxy_config::Bind {
            listener: "web".to_owned(),
            address,
            transparent: false,
            thread: Some(thread),
        };
        proxy.plane.add_listener(thread, bind, socket);
        assert_eq!(Client::connect(address).await.get("/").await.text(), "hello");
    }
    assert_eq!(backend.connections(), 2, "each thread has its own pool");
    let requests = "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"backend\"}";
    assert_eq!(proxy.metric(requests, 2.0).await, 2.0);
    tokio::time::timeout(crate::harness::PATIENCE, proxy.plane.drain(std::time::Duration::from_secs(10)))
        .await
        .unwrap();
}
