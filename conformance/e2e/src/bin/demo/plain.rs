//! Without root: the same folder on plain listeners, its pods on loopback addresses.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use mesh_testkit::certificate::Certificate;
use mesh_testkit::echo::Echo;
use mesh_testkit::http::{Speak, get_unix};
use mesh_testkit::process::Guard;
use mesh_testkit::wait;

use crate::Run;
use crate::story::{Ask, Story};

const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const HTTPS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);

/// Runs the story. False when something was wrong.
pub(crate) fn run(run: &Run) -> anyhow::Result<bool> {
    let folder = std::env::temp_dir().join(format!("mr-demo-{}", std::process::id()));
    let outcome = tell(run, &folder);
    let mut cleanup = Command::new(run.programs.join("mesh-agent"));
    cleanup.args(["cleanup", "--stop-proxy", "--run-dir"]).arg(folder.join("run"));
    let _ = cleanup.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let _ = fs::remove_dir_all(&folder);
    outcome
}

fn tell(run: &Run, folder: &Path) -> anyhow::Result<bool> {
    println!("Without root nothing is redirected: plain listeners on {HTTP} and {HTTPS}.");
    let certificate = Certificate::for_hosts(&["shop.example.com"])?;
    let manifests = folder.join("manifests");
    copy_for_loopback(&run.manifests, &manifests)?;
    fs::write(manifests.join("15-secret.yaml"), certificate.secret("shop", "shop-tls"))?;
    let mut backends = Vec::new();
    for number in 1..=3 {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 10 + number), 8080))
            .with_context(|| format!("pod{number} cannot listen"))?;
        backends.push(Echo::start(&format!("pod{number}"), listener)?);
    }
    let _agent = start_agent(run, folder)?;
    let mut story = Story::default();

    story.scene(&format!("A client asks the Ingress for http://hello.example.com/ ({HTTP})"));
    let ask = |to, host, path| Ask { from: None, to, speak: Speak::Http1, url: (host, path), headers: &[] };
    let first = wait::until("the proxy serves", Duration::from_secs(20), || {
        let answer = ask(HTTP, "hello.example.com", "/").send()?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(answer)
    })
    .with_context(|| read(folder, "agent.log"))?;
    story.tell_answer(&first);
    story.check(first.json()["pod"] == "pod1", "pod1 answers");

    story.scene(&format!("It asks for https://shop.example.com/catalog over HTTP/2 ({HTTPS})"));
    let speak = Speak::Tls {
        server_name: "shop.example.com".to_owned(),
        trusted_pem: certificate.certificate_pem,
        alpn: vec!["h2", "http/1.1"],
    };
    let answer = Ask { speak, ..ask(HTTPS, "shop.example.com", "/catalog") }.send()?;
    story.tell_answer(&answer);
    story.check(answer.json()["pod"] == "pod3", "pod3 answers");

    story.scene("It asks the Gateway's host for /v2/shoes: the path is rewritten and a header set");
    let answer = ask(HTTP, "gw.example.com", "/v2/shoes").send()?;
    story.tell_answer(&answer);
    story.check(answer.json()["path"] == "/shoes", "/shoes");

    story.scene("East-west traffic");
    let status = get_unix(&folder.join("run/agent.sock"), "/v1/status")?;
    let parts = status["parts"].as_array().cloned().unwrap_or_default();
    let off: Vec<String> = parts
        .iter()
        .filter(|part| part["state"] == "off")
        .map(|part| part["detail"].as_str().unwrap_or_default().to_owned())
        .collect();
    story.tell("agent", &off.join("; "));
    story.check(
        off.iter().any(|detail| detail.contains("east-west is unavailable")),
        "it is told as unavailable",
    );
    Ok(story.end())
}

fn start_agent(run: &Run, folder: &Path) -> anyhow::Result<Guard> {
    let run_dir = folder.join("run");
    fs::create_dir_all(&run_dir)?;
    let log = File::create(run_dir.join("agent.log"))?;
    let mut command = Command::new(run.programs.join("mesh-agent"));
    command.arg("--manifests").arg(folder.join("manifests")).arg("--run-dir").arg(&run_dir);
    command.args(["--redirect", "off", "--http-port", &HTTP.port().to_string()]);
    command.args(["--https-port", &HTTPS.port().to_string()]);
    command.arg("--proxy-binary").arg(run.programs.join("l7proxy"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut agent = Guard::start(&mut command).context("cannot start the agent")?;
    let answered = wait::until("the agent's socket answers", Duration::from_secs(20), || {
        if let Some(status) = agent.ended() {
            return Ok(Err(status));
        }
        get_unix(&run_dir.join("agent.sock"), "/v1/status").map(|_| Ok(()))
    })?;
    if let Err(status) = answered {
        bail!("the agent ended with {status}:\n{}", read(folder, "agent.log"));
    }
    Ok(agent)
}

/// The manifests, the pods' addresses made loopback ones. IPv6 has only one of these: its slices are left out.
fn copy_for_loopback(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let text = fs::read_to_string(entry.path())?;
        let documents = text.split("\n---\n").filter(|document| !document.contains("addressType: IPv6"));
        let text = documents.collect::<Vec<_>>().join("\n---\n").replace("10.244.1.", "127.0.0.");
        fs::write(to.join(entry.file_name()), text)?;
    }
    Ok(())
}

fn read(folder: &Path, log: &str) -> String {
    fs::read_to_string(folder.join("run").join(log)).unwrap_or_default()
}
