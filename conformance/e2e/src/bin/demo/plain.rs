//! Without root: the same folder on plain listeners, its pods on loopback addresses.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use mesh_conformance::{PlainOptions, PlainStack};
use mesh_testkit::certificate::Certificate;
use mesh_testkit::http::Speak;
use mesh_testkit::wait;

use crate::Run;
use crate::story::{Ask, Story};

/// Runs the story. False when something was wrong.
pub(crate) fn run(run: &Run) -> anyhow::Result<bool> {
    let mut stack = PlainStack::create(PlainOptions {
        programs: run.programs.clone(),
        manifests: run.manifests.clone(),
        folder: std::env::temp_dir().join(format!("mr-demo-{}", std::process::id())),
        pods: 3,
        http_port: 8080,
        https_port: 8443,
    })?;
    let (http, https) = (stack.http(), stack.https());
    println!("Without root nothing is redirected: plain listeners on {http} and {https}.");
    let certificate = Certificate::for_hosts(&["shop.example.com"])?;
    stack.write_manifest("15-secret.yaml", &certificate.secret("shop", "shop-tls"))?;
    stack.start_agent()?;
    let mut story = Story::default();

    story.scene(&format!("A client asks the Ingress for http://hello.example.com/ ({http})"));
    let first = wait::until("the proxy serves", Duration::from_secs(20), || {
        let answer = ask(http, "hello.example.com", "/").send()?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(answer)
    })
    .with_context(|| stack.log("agent.log"))?;
    story.tell_answer(&first);
    story.check(first.json()["pod"] == "pod1", "pod1 answers");

    story.scene(&format!("It asks for https://shop.example.com/catalog over HTTP/2 ({https})"));
    let speak = Speak::Tls {
        server_name: "shop.example.com".to_owned(),
        trusted_pem: certificate.certificate_pem,
        alpn: vec!["h2", "http/1.1"],
    };
    let answer = Ask { speak, ..ask(https, "shop.example.com", "/catalog") }.send()?;
    story.tell_answer(&answer);
    story.check(answer.json()["pod"] == "pod3", "pod3 answers");

    story.scene("It asks the Gateway's host for /v2/shoes: the path is rewritten and a header set");
    let answer = ask(http, "gw.example.com", "/v2/shoes").send()?;
    story.tell_answer(&answer);
    story.check(answer.json()["path"] == "/shoes", "/shoes");

    story.scene("Somebody asks the agent about east-west traffic");
    let status = stack.ask("/v1/status")?;
    let parts = status["parts"].as_array().cloned().unwrap_or_default();
    let off: Vec<&str> = parts
        .iter()
        .filter(|part| part["state"] == "off")
        .filter_map(|part| part["detail"].as_str())
        .collect();
    story.tell("agent", &off.join("; "));
    story.check(
        off.iter().any(|detail| detail.contains("east-west is unavailable")),
        "it is said to be unavailable",
    );
    Ok(story.end())
}

fn ask<'a>(to: SocketAddr, host: &'a str, path: &'a str) -> Ask<'a> {
    Ask { from: None, to, speak: Speak::Http1, url: (host, path), headers: &[] }
}
