//! The same resources in a real Envoy, over both variants of the protocol.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use mesh_model::l7::{Action, PathRewrite, Respond};
use mesh_model::service::BackendState;
use mesh_testkit::envoy::{self, Ads, Envoy};
use mesh_xds::lower::LowerConfig;
use mesh_xds::resolve::ResolveConfig;
use mesh_xds::server::{Protocol, ResourceSet};
use mesh_xds_proto::{json, type_urls};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::golden;
use crate::harness::{Agent, soon};
use crate::mesh::{
    Mesh, backend as backend_of, ingress, ingress_route, invalid_backend, prefix, redirect_to, rewrite, rule,
    split, to,
};

/// Resources of a type as JSON, by name.
fn of_type(set: &ResourceSet, short: &str) -> Map<String, Value> {
    set.iter()
        .filter(|(url, ..)| url.ends_with(&format!(".{short}")))
        .map(|(_, name, body)| {
            let mut value = json::encode_any(body).expect("our own resources can be printed");
            value.as_object_mut().expect("an object").remove("@type");
            (name.to_owned(), value)
        })
        .collect()
}

/// Puts in place what a listener would ask the server for.
fn inline(value: &mut Value, tables: &Map<String, Value>) {
    match value {
        Value::Object(fields) => {
            if let Some(rds) = fields.remove("rds") {
                let name = rds["route_config_name"].as_str().expect("a name");
                fields.insert("route_config".to_owned(), tables[name].clone());
            }
            // Without a source, the name is one of the static secrets.
            fields.remove("sds_config");
            fields.values_mut().for_each(|value| inline(value, tables));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| inline(value, tables)),
        _ => {}
    }
}

/// A bootstrap that holds everything, so that Envoy's validation sees everything.
fn static_bootstrap(set: &ResourceSet, pem: &Path) -> Value {
    let (tables, assignments) = (of_type(set, "RouteConfiguration"), of_type(set, "ClusterLoadAssignment"));
    let mut listeners = of_type(set, "Listener");
    listeners.values_mut().for_each(|listener| inline(listener, &tables));
    let mut clusters = of_type(set, "Cluster");
    for (name, cluster) in &mut clusters {
        let fields = cluster.as_object_mut().expect("an object");
        let eds = fields.remove("eds_cluster_config").expect("clusters are EDS");
        let mut assignment = assignments[eds["service_name"].as_str().expect("a name")].clone();
        assignment["cluster_name"] = json!(name);
        fields.insert("type".to_owned(), json!("STATIC"));
        fields.insert("load_assignment".to_owned(), assignment);
    }
    let secrets: Vec<Value> = of_type(set, "Secret")
        .keys()
        .map(|name| {
            json!({ "name": name, "tls_certificate": {
                "certificate_chain": { "filename": pem.join("chain.pem") },
                "private_key": { "filename": pem.join("key.pem") },
            }})
        })
        .collect();
    json!({ "static_resources": {
        "listeners": listeners.values().collect::<Vec<_>>(),
        "clusters": clusters.values().collect::<Vec<_>>(),
        "secrets": secrets,
    }})
}

/// A certificate that Envoy can read; those of the golden cases are words.
fn make_certificate(folder: &Path) {
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "1", "-subj", "/CN=test", "-keyout", "key.pem", "-out", "chain.pem"])
        .current_dir(folder)
        .stderr(Stdio::null())
        .status()
        .expect("openssl runs");
    assert!(status.success());
}

#[test]
fn every_golden_case_is_valid_in_a_real_envoy() {
    let Some(envoy) = envoy::binary("every_golden_case_is_valid_in_a_real_envoy") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    make_certificate(folder.path());
    let mut wrong = Vec::new();
    for (name, mesh, config) in golden::cases::all() {
        let bootstrap = static_bootstrap(&golden::resources(name, &mesh, &config), folder.path());
        let path = folder.path().join(format!("{name}.json"));
        std::fs::write(&path, bootstrap.to_string()).expect("the bootstrap can be written");
        let output = Command::new(&envoy)
            .args(["--mode", "validate", "--log-level", "error", "--base-id", "4071", "-c"])
            .arg(&path)
            .output()
            .expect("Envoy runs");
        if !output.status.success() {
            wrong.push(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Path of a request, prefix of the match, replacement, path that the backend sees.
const REWRITES: [(&str, &str, &str, &str); 7] = [
    ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
    ("/foo/bar?q=/foo", "/foo", "/", "/bar?q=/foo"),
    ("/foo", "/foo", "/", "/"),
    ("/foo/", "/foo", "/xyz/", "/xyz/"),
    ("/x", "/", "/bar", "/bar/x"),
    ("/foo/x", "/foo", "/a\\1/", "/a\\1/x"),
    ("/a//./b/../c", "/", "/", "/a/c"),
];

/// A mesh on two free ports of this machine, served in plain mode, with a backend on `backend`.
fn answering_mesh(backend: SocketAddr) -> (Mesh, ResolveConfig, u16) {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (http, https) = (free(), free());
    let address = |socket: &std::net::TcpListener| socket.local_addr().expect("bound");
    let config = ResolveConfig::Plain { http: address(&http), https: address(&https) };

    let shop = ingress("default/shop", 1);
    let on_host = |host: &str, rules| ingress_route(&shop, &["http"], &[host], rules);
    let tea = Action::Respond(Respond { status: 418, body: "from the mesh".to_owned() });
    let mut echo = rule(vec![prefix("/")], to("default/echo:80"));
    echo.response_headers.set.push(("x-share".to_owned(), "100%".to_owned()));
    let mut moved = redirect_to(Some("https"), None);
    moved.path = Some(PathRewrite::Prefix("/".to_owned()));
    let mut mesh = Mesh::default()
        .listener(&shop, "http", 80, "*")
        .service("default/echo", 80, &[])
        .backends("default/echo", 80, &[(&backend.to_string(), BackendState::Active)])
        .route(on_host("*.shop.test", vec![rule(vec![prefix("/tea")], tea)]))
        .route(on_host("echo.test", vec![echo]))
        .route(on_host("moved.test", vec![rule(vec![prefix("/old")], Action::Redirect(moved))]))
        .route(on_host(
            "half.test",
            vec![rule(vec![prefix("/")], split(vec![backend_of("default/echo:80", 1), invalid_backend(1)]))],
        ));
    for (index, (_, matched, replacement, _)) in REWRITES.iter().enumerate() {
        let action = rewrite("default/echo:80", PathRewrite::Prefix((*replacement).to_owned()));
        mesh = mesh.route(on_host(&format!("r{index}.test"), vec![rule(vec![prefix(matched)], action)]));
    }
    (mesh, config, address(&http).port())
}

/// Answers every request with its target.
async fn echo(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut head = Vec::new();
            while let Ok(1..) = stream.read_buf(&mut head).await {
                if !head.ends_with(b"\r\n\r\n") {
                    continue;
                }
                let text = String::from_utf8_lossy(&head);
                let target = text.split(' ').nth(1).unwrap_or_default();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{target}", target.len());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                head.clear();
            }
        });
    }
}

/// Asks until the listener is there, then returns the whole answer.
async fn get(port: u16, host: &str, path: &str) -> String {
    soon(async {
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("Envoy reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("Envoy answers");
        answer
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_envoy_takes_the_mesh_over_delta_ads_and_answers() {
    let name = "a_real_envoy_takes_the_mesh_over_delta_ads_and_answers";
    takes_the_mesh_and_answers(name, Ads::Delta).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_envoy_takes_the_mesh_over_state_of_the_world_ads_and_answers() {
    let name = "a_real_envoy_takes_the_mesh_over_state_of_the_world_ads_and_answers";
    takes_the_mesh_and_answers(name, Ads::StateOfTheWorld).await;
}

async fn takes_the_mesh_and_answers(test: &str, ads: Ads) {
    let Some(envoy) = envoy::binary(test) else { return };
    let agent = Agent::start();
    let backend = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (mesh, config, port) = answering_mesh(backend.local_addr().expect("bound"));
    let backend = tokio::spawn(echo(backend));
    let choices = LowerConfig { access_log: false, ..Default::default() };
    let revision = agent.cache.publish(mesh.lower_with(&config, &choices)).revision;

    let _envoy = Envoy::start(&envoy, agent.socket(), ads).expect("Envoy starts");

    let answer = get(port, "a.shop.test:8080", "/tea/green").await;
    assert!(answer.starts_with("HTTP/1.1 418 ") && answer.ends_with("from the mesh"), "{answer}");
    assert!(answer.contains("server: millrace"), "{answer}");
    for (host, path) in [("a.b.shop.test", "/tea"), ("a.shop.test", "/teapot"), ("other.test", "/tea")] {
        let answer = get(port, host, path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{host}{path}: {answer}");
    }
    for (index, (path, _, _, expected)) in REWRITES.iter().enumerate() {
        let answer = get(port, &format!("r{index}.test"), path).await;
        assert_eq!(answer.split("\r\n\r\n").nth(1), Some(*expected), "{answer}");
    }
    let answer = get(port, "echo.test", "/").await;
    assert!(answer.contains("x-share: 100%\r\n"), "{answer}");
    let answer = get(port, &format!("moved.test:{port}"), "/old/x?q").await;
    let ResolveConfig::Plain { https, .. } = config else { unreachable!("plain mode") };
    assert!(answer.contains(&format!("location: https://moved.test:{}/x?q", https.port())), "{answer}");

    let mut statuses = BTreeMap::<String, u32>::new();
    for _ in 0..60 {
        let status = get(port, "half.test", "/").await[9..12].to_owned();
        *statuses.entry(status).or_default() += 1;
    }
    assert_eq!(statuses.keys().collect::<Vec<_>>(), ["200", "500"], "one backend of two cannot be used");

    agent.settled(revision).await;
    assert!(agent.handle.rejections().is_empty());
    let protocol = match ads {
        Ads::Delta => Protocol::Delta,
        Ads::StateOfTheWorld => Protocol::StateOfTheWorld,
    };
    assert_eq!(agent.handle.clients()[0].protocol, protocol);
    backend.abort();
}

/// A listener that answers each connection with a word.
fn word_listener(port: u16, word: &str) -> Value {
    json!({
        "@type": type_urls::LISTENER,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": port } },
        "filter_chains": [{ "filters": [{
            "name": "word",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config",
                "response": { "inline_string": word },
            },
        }]}],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_envoy_refuses_one_listener_and_uses_the_others() {
    let name = "a_real_envoy_refuses_one_listener_and_uses_the_others";
    refuses_one_listener_and_uses_the_others(name, Ads::Delta).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_envoy_refuses_one_listener_over_state_of_the_world_ads() {
    let name = "a_real_envoy_refuses_one_listener_over_state_of_the_world_ads";
    refuses_one_listener_and_uses_the_others(name, Ads::StateOfTheWorld).await;
}

async fn refuses_one_listener_and_uses_the_others(test: &str, ads: Ads) {
    let Some(envoy) = envoy::binary(test) else { return };
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let publish = |agent: &Agent, second: Value| {
        let mut set = ResourceSet::default();
        for (name, mut listener) in [("good", word_listener(port, "one")), ("bad", second)] {
            listener["name"] = json!(name);
            set.insert(name, json::decode_any_value(&listener).expect("a listener"));
        }
        agent.cache.publish(set).revision
    };
    let hear = async || {
        soon(async {
            let mut word = String::new();
            while word.is_empty() {
                match TcpStream::connect(("127.0.0.1", port)).await {
                    Ok(mut stream) => drop(stream.read_to_string(&mut word).await),
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                }
            }
            word
        })
        .await
    };

    let mut agent = Agent::start();
    let mut bad = word_listener(0, "two");
    // An HTTP filter where a network filter belongs.
    bad["filter_chains"][0]["filters"][0]["typed_config"] =
        json!({ "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" });
    let revision = publish(&agent, bad);
    let _envoy = Envoy::start(&envoy, agent.socket(), ads).expect("Envoy starts");
    agent.settled(revision).await;
    let rejections = agent.handle.rejections();
    assert_eq!(rejections.len(), 1, "{rejections:?}");
    assert_eq!((rejections[0].type_url.as_str(), rejections[0].name.as_str()), (type_urls::LISTENER, "bad"));
    assert!(rejections[0].nack.message.contains("http.router.v3.Router"), "{rejections:?}");
    assert_eq!(hear().await, "one");

    // The agent restarts, then everything is right.
    agent.stop().await;
    assert_eq!(hear().await, "one");
    agent.restart();
    let revision = publish(&agent, word_listener(0, "two"));
    agent.settled(revision).await;
    assert_eq!(agent.handle.rejections(), []);
    agent.settled(agent.cache.publish(ResourceSet::default()).revision).await;
}

/// Echoing cluster with a timeout for connecting, its endpoints, and a listener that leads to it.
fn echoing(port: u16, backend: SocketAddr, timeout: &str) -> ResourceSet {
    let mut set = ResourceSet::default();
    let mut insert = |name: &str, resource: Value| {
        set.insert(name, json::decode_any_value(&resource).expect("a resource"));
    };
    insert(
        "echo",
        json!({
            "@type": type_urls::CLUSTER, "name": "echo", "type": "EDS", "connect_timeout": timeout,
            "eds_cluster_config": {
                "eds_config": { "ads": {}, "resource_api_version": "V3" },
                "service_name": "echoes",
            },
        }),
    );
    insert(
        "echoes",
        json!({
            "@type": type_urls::ENDPOINT, "cluster_name": "echoes",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": { "socket_address": {
                "address": backend.ip().to_string(), "port_value": backend.port(),
            }}}}]}],
        }),
    );
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "rds": { "route_config_name": "web", "config_source": { "ads": {}, "resource_api_version": "V3" } },
        "http_filters": [{ "name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
    });
    insert(
        "web",
        json!({
            "@type": type_urls::LISTENER, "name": "web",
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": port } },
            "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }],
        }),
    );
    let virtual_host = json!({ "name": "all", "domains": ["*"], "routes": [{
        "match": { "prefix": "/" }, "route": { "cluster": "echo" },
        "response_headers_to_add": [{ "header": { "key": "x-timeout", "value": timeout } }],
    }]});
    insert("web", json!({ "@type": type_urls::ROUTE, "name": "web", "virtual_hosts": [virtual_host] }));
    set
}

/// Envoy waits for the endpoints of a changed cluster before it uses it, and answers the next request for
/// clusters only then.
async fn uses_a_changed_cluster_at_once(test: &str, ads: Ads) {
    let Some(envoy) = envoy::binary(test) else { return };
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    let backend = tokio::spawn(echo(socket));
    let agent = Agent::start();
    let envoy = {
        agent.cache.publish(echoing(port, address, "1s"));
        Envoy::start(&envoy, agent.socket(), ads).expect("Envoy starts")
    };
    assert!(get(port, "a.test", "/one").await.ends_with("/one"));

    // The endpoints are the same; Envoy's own patience would be 15 s.
    let start = std::time::Instant::now();
    let revision = agent.cache.publish(echoing(port, address, "2s")).revision;
    agent.settled(revision).await;
    while !envoy.admin("/config_dump?resource=dynamic_active_clusters").await.contains("\"2s\"") {
        assert!(start.elapsed().as_secs() < 10, "the changed cluster is not in use");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(get(port, "a.test", "/two").await.ends_with("/two"));
    backend.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_envoy_uses_a_changed_cluster_at_once_over_delta_ads() {
    let name = "a_real_envoy_uses_a_changed_cluster_at_once_over_delta_ads";
    uses_a_changed_cluster_at_once(name, Ads::Delta).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_envoy_uses_a_changed_cluster_at_once_over_state_of_the_world_ads() {
    let name = "a_real_envoy_uses_a_changed_cluster_at_once_over_state_of_the_world_ads";
    uses_a_changed_cluster_at_once(name, Ads::StateOfTheWorld).await;
}
