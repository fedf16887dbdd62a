//! A real Envoy in the place of our proxy: the agent configures it over the same socket, and a client of the
//! quickstart gets the same answers.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::ensure;
use mesh_conformance::PlainStack;
use mesh_testkit::certificate::Certificate;
use mesh_testkit::envoy::{self, Ads, Envoy};
use mesh_testkit::http::{Answer, Connection, Speak};
use mesh_testkit::wait;
use serde_json::Value;

use crate::fixture::{get_plain, plain_stack, tls};

/// Method, host, path and headers of a request.
type Asked = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

/// What is asked in clear text; shares by weight are left out.
const CLEAR: [Asked; 10] = [
    ("GET", "hello.example.com", "/", &[]),
    ("GET", "hello.example.com", "/any/../thing?x=y", &[]),
    ("POST", "HELLO.example.com:8080", "/form", &[("x-mine", "1")]),
    ("GET", "shop.example.com", "/catalog?q=1", &[]),
    ("GET", "gw.example.com", "/old/shoes?size=42", &[]),
    ("GET", "gw.example.com", "/v2/shoes?size=42", &[]),
    ("GET", "gw.example.com", "/v2", &[("x-shop", "forged")]),
    ("POST", "gw.example.com", "/cart", &[]),
    ("GET", "gw.example.com", "/anything", &[("x-version", "2")]),
    ("GET", "nobody.example.com", "/", &[]),
];

/// Host and path of what is asked over TLS.
const SECURE: [(&str, &str); 3] =
    [("shop.example.com", "/"), ("shop.example.com", "/catalog/x"), ("gw.example.com", "/v2/shoes")];

/// What a client can tell of an answer: status, headers and what the backend says it saw. Left out is what
/// two runs of one proxy do not have in common, and x-forwarded-for, where Envoy writes an address of the
/// machine's for a client on 127.0.0.1.
fn told(answer: &Answer) -> String {
    let volatile = ["date", "x-envoy-upstream-service-time"];
    let mut headers = BTreeMap::new();
    for (name, value) in answer.headers.iter().filter(|(name, _)| !volatile.contains(&name.as_str())) {
        headers.entry(name.as_str()).or_insert_with(Vec::new).push(value.to_str().expect("text"));
    }
    // The echo's length depends on ports.
    headers.remove("content-length");
    let mut seen = answer.json();
    if let Value::Object(seen) = &mut seen {
        ["client", "clientPort", "address"].iter().for_each(|name| drop(seen.remove(*name)));
        if let Some(headers) = seen["headers"].as_object_mut() {
            ["x-request-id", "x-forwarded-for"].iter().for_each(|name| {
                headers.remove(*name).unwrap_or_else(|| panic!("the backend sees no {name}"));
            });
        }
    }
    format!("{} {headers:?} {seen}", answer.status)
}

fn connect(to: SocketAddr, speak: &Speak) -> Connection {
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).expect("it listens");
    Connection::open(stream, speak).expect("it speaks")
}

/// All answers of whatever proxy serves the stack.
fn answers(stack: &PlainStack, certificate: &Certificate) -> Vec<String> {
    wait::until("the quickstart is served", Duration::from_secs(20), || {
        for host in ["hello.example.com", "gw.example.com"] {
            let answer = get_plain(stack.http(), host, "/v2/ready")?;
            ensure!(answer.status == 200, "{}", answer.status);
        }
        Connection::open(TcpStream::connect(stack.https())?, &tls(certificate))?.get("shop.example.com", "/")
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", stack.log("agent.log")));
    let mut told_all = Vec::new();
    for (method, host, path, headers) in CLEAR {
        for speak in [Speak::Http1, Speak::Http2] {
            let answer = connect(stack.http(), &speak).call(method, host, path, headers).expect("an answer");
            told_all.push(format!("{method} {host}{path} {speak:?}: {}", told(&answer)));
        }
    }
    for (host, path) in SECURE {
        let answer = connect(stack.https(), &tls(certificate)).get(host, path).expect("an answer");
        told_all.push(format!("https {host}{path}: {}", told(&answer)));
    }
    told_all
}

fn serves_the_quickstart_as_our_proxy_does(test: &str, ads: Ads) {
    let Some(binary) = envoy::binary(test) else { return };
    let certificate = Certificate::for_hosts(&["shop.example.com"]).expect("a certificate");
    let secret = certificate.secret("shop", "shop-tls");

    let mut ours = plain_stack(0, 0);
    ours.write_manifest("15-secret.yaml", &secret).expect("a Secret");
    ours.start_agent().expect("the agent starts");
    let expected = answers(&ours, &certificate);
    // Redirects name the port, so Envoy has to serve on the same.
    let (http, https) = (ours.http().port(), ours.https().port());
    drop(ours);

    let mut stack = plain_stack(http, https);
    stack.write_manifest("15-secret.yaml", &secret).expect("a Secret");
    stack.start_agent_alone().expect("the agent starts");
    let envoy = Envoy::start(&binary, &stack.run_dir().join("xds.sock"), ads).expect("Envoy starts");
    for (ours, theirs) in expected.iter().zip(&answers(&stack, &certificate)) {
        assert_eq!(ours, theirs, "{}", envoy.log());
    }
}

#[test]
fn envoy_over_delta_ads_serves_the_quickstart_as_our_proxy_does() {
    let name = "envoy_over_delta_ads_serves_the_quickstart_as_our_proxy_does";
    serves_the_quickstart_as_our_proxy_does(name, Ads::Delta);
}

#[test]
fn envoy_over_state_of_the_world_ads_serves_the_quickstart_as_our_proxy_does() {
    let name = "envoy_over_state_of_the_world_ads_serves_the_quickstart_as_our_proxy_does";
    serves_the_quickstart_as_our_proxy_does(name, Ads::StateOfTheWorld);
}
