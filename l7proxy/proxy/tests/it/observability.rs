//! What operators see.

use http::{Request, StatusCode};

use crate::harness::{Backend, Client, Proxy, empty, eventually, full, http_listener, listener, routes};

const STDOUT: &str =
    "\"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";

#[tokio::test]
async fn every_request_is_one_line_of_json() {
    let backend = Backend::saying("hello").await;
    let manager = format!("access_log: [ {{ name: log, typed_config: {{ {STDOUT} }} }} ],");
    let (mut proxy, address) = Proxy::forwarding_with(backend.address, &manager, "");
    proxy.apply(&[routes(
        "web",
        r#"[{ name: main, match: { prefix: "/a" }, route: { cluster: backend, prefix_rewrite: "/b" } }]"#,
    )]);
    let mut client = Client::connect(address).await;
    let ask = || Request::post("/a?b=c").header("host", "shop.example").body(full("12345")).unwrap();
    client.send(ask()).await.unwrap();
    client.send(ask()).await.unwrap();
    assert_eq!(client.get("/none").await.status, StatusCode::NOT_FOUND);
    let lines = proxy.log(3).await;
    let line = &lines[1];
    assert_eq!(line["method"], "POST");
    assert_eq!(line["path"], "/a?b=c");
    assert_eq!(line["authority"], "shop.example");
    assert_eq!(line["protocol"], "HTTP/1.1");
    assert_eq!(line["response_code"], 200);
    assert_eq!(line["response_flags"], "-");
    assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&5.into(), &5.into()));
    assert_eq!(line["upstream_host"], backend.address.to_string());
    assert_eq!(line["upstream_cluster"], "backend");
    assert_eq!(line["route_name"], "main");
    assert_eq!(line["downstream_local_address"], address.to_string());
    assert_eq!(line["request_id"].as_str().unwrap().len(), 36);
    assert!(line["duration"].is_number());
    assert!(line["start_time"].as_str().unwrap().starts_with("20"));
    assert_eq!(lines[2]["response_flags"], "NR");
    assert_eq!(lines[2]["upstream_host"], serde_json::Value::Null);
}

#[tokio::test]
async fn no_request_can_forge_a_line() {
    let backend = Backend::saying("hello").await;
    let manager = format!(
        "access_log: [ {{ name: log, typed_config: {{ {STDOUT}, log_format: {{ text_format: \
         \"%REQ(USER-AGENT)%|%RESPONSE_CODE%\" }} }} }} ],"
    );
    let (proxy, address) = Proxy::forwarding_with(backend.address, &manager, "");
    let request = Request::get("/").header("host", "a").header("user-agent", "x\"\ty").body(empty()).unwrap();
    Client::connect(address).await.send(request).await.unwrap();
    assert_eq!(proxy.log(1).await, [r#"x\"\x09y|200"#]);
}

#[tokio::test]
async fn metrics_have_envoys_names_and_add_up() {
    let backend = Backend::saying("hello").await;
    let (mut proxy, address) = Proxy::forwarding(backend.address);
    let mut client = Client::connect(address).await;
    for _ in 0..3 {
        client.get("/").await;
    }
    proxy.apply(&[routes("web", "[]")]);
    while client.get("/").await.status != StatusCode::NOT_FOUND {}
    let http = "{envoy_http_conn_manager_prefix=\"web\"}";
    assert!(proxy.metric(&format!("envoy_http_downstream_rq_total{http}"), 4.0).await >= 4.0);
    let class =
        "envoy_http_downstream_rq_xx{envoy_response_code_class=\"4\",envoy_http_conn_manager_prefix=\"web\"}";
    assert_eq!(proxy.metric(class, 1.0).await, 1.0);
    assert_eq!(proxy.metric(&format!("envoy_http_downstream_cx_active{http}"), 1.0).await, 1.0);
    let count = "envoy_cluster_upstream_rq_time_count{envoy_cluster_name=\"backend\"}";
    assert!(proxy.metric(count, 3.0).await >= 3.0);
    let stats = proxy.plane.stats();
    let found =
        stats["stats"].as_array().unwrap().iter().any(|stat| stat["name"] == "http.web.downstream_rq_total");
    assert!(found, "{stats}");
}

#[tokio::test]
async fn clusters_and_listeners_are_shown() {
    let backend = Backend::saying("hello").await;
    let (proxy, address) = Proxy::forwarding(backend.address);
    let clusters = proxy.plane.clusters();
    let host = &clusters["cluster_statuses"][0]["host_statuses"][0];
    assert_eq!(host["address"]["socket_address"]["port_value"], backend.address.port());
    assert_eq!(host["health_status"]["eds_health_status"], "HEALTHY");
    let listeners = proxy.plane.listeners();
    assert_eq!(listeners["listener_statuses"][0]["name"], "web");
    assert_eq!(listeners["listener_statuses"][0]["sockets"][0]["address"], address.to_string());
}

#[tokio::test]
async fn what_was_counted_for_a_listener_goes_with_it_and_its_connections() {
    let backend = Backend::saying("hello").await;
    let (mut proxy, address) = Proxy::forwarding(backend.address);
    let counted = |proxy: &Proxy, prefix: &str| {
        let mut text = String::new();
        proxy.plane.metrics(&mut text);
        text.contains(&format!("envoy_http_conn_manager_prefix=\"{prefix}\""))
    };
    let mut client = Client::connect(address).await;
    client.get("/").await;
    assert!(counted(&proxy, "web"));
    proxy.apply(&[listener("web", "127.0.0.1", 0, "", &[("", "", "other", "")]), routes("other", "[]")]);
    assert!(counted(&proxy, "web"), "there is a connection still");
    while client.get("/").await.header("connection") != Some("close") {}
    drop(client);
    // The next change of a listener after the connection has gone.
    let mut other = 0;
    eventually("the counters go", || {
        other += 1;
        proxy.apply(&[http_listener(&format!("more-{other}"), "")]);
        (!counted(&proxy, "web")).then_some(())
    })
    .await;
    Client::connect(address).await.get("/").await;
    assert!(counted(&proxy, "other"));
}
