//! `millrace` against a real agent: every command, its exit code, and the fields that scripts rely on.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::ensure;
use mesh_conformance::PlainStack;
use mesh_testkit::wait;
use serde_json::Value;

use crate::fixture::{at, get, get_plain, plain, programs, serving};

/// What a run came to.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    /// The words of the lines, without how far apart they are.
    fn words(&self) -> Vec<Vec<&str>> {
        self.stdout.lines().map(|line| line.split_whitespace().collect()).collect()
    }
}

fn command(run_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(programs().join("millrace"));
    command.args(arguments).arg("--run-dir").arg(run_dir).stdin(Stdio::null());
    command
}

fn millrace(run_dir: &Path, arguments: &[&str]) -> Ran {
    let output = command(run_dir, arguments).output().expect("millrace is built");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran {
        code: output.status.code().expect("it was not killed"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

fn ready() -> PlainStack {
    let stack = plain();
    let ran = millrace(&stack.run_dir(), &["status", "--wait", "--wait-duration", "30s"]);
    assert_eq!(ran.code, 0, "{}{}\n{}", ran.stdout, ran.stderr, stack.log("agent.log"));
    stack
}

fn fields(document: &Value) -> Vec<&str> {
    let mut fields: Vec<&str> = document.as_object().expect("an object").keys().map(String::as_str).collect();
    fields.sort_unstable();
    fields
}

#[test]
fn status_is_for_people_for_scripts_and_for_those_in_a_hurry() {
    let stack = ready();
    let run = |arguments: &[&str]| millrace(&stack.run_dir(), arguments);

    let shown = run(&["status"]);
    let words = shown.words();
    assert_eq!(words[0], ["PART", "STATE", "DETAIL"]);
    let states: Vec<(&str, &str)> =
        shown.stdout.lines().skip(1).filter_map(|line| line.split_once("  ")).collect();
    let state = |part: &str| {
        let found = states.iter().find(|(name, _)| *name == part);
        found.and_then(|(_, rest)| rest.split_whitespace().next())
    };
    assert_eq!(state("manifests"), Some("ok"), "{}", shown.stdout);
    assert_eq!(state("proxy processes"), Some("ok"), "{}", shown.stdout);
    assert_eq!(state("kernel tables"), Some("off"), "{}", shown.stdout);
    assert!(!shown.stdout.contains('\u{1b}'), "no colour when piped");

    assert_eq!(run(&["status", "--brief"]).stdout, "OK\n");
    let coloured = run(&["status", "--brief", "--color", "always"]);
    assert!(coloured.stdout.contains("\u{1b}[32mOK"), "{:?}", coloured.stdout);

    let short = run(&["status", "-o", "json"]).json();
    assert_eq!(
        fields(&short),
        ["commit", "healthy", "mode", "parts", "problems", "uptimeSeconds", "version"]
    );
    assert_eq!(fields(&short["parts"][0]), ["detail", "fix", "name", "state"]);
    assert_eq!((&short["healthy"], &short["mode"]), (&Value::Bool(true), &Value::from("plain")));

    let full = run(&["status", "--verbose", "-o", "json"]).json();
    for field in ["clients", "datapath", "objects", "processes", "revision"] {
        assert!(full.get(field).is_some(), "{field} is not in {full}");
    }
    assert_eq!(full["objects"]["Ingress"], 1);
    let verbose = run(&["status", "--verbose"]).stdout;
    for part in ["Agent:", "Objects:", "Proxy processes:", "xDS clients", "Datapath: none"] {
        assert!(verbose.contains(part), "{part} is not in {verbose}");
    }
    assert_eq!(run(&["status", "--verbose", "--brief"]).code, 2, "they contradict each other");
}

#[test]
fn something_wrong_is_exit_code_1_and_says_where_and_how_to_mend_it() {
    let stack = ready();
    stack.write_manifest("60-bad.yaml", "apiVersion: v1\nkind: [\n").expect("a manifest");
    let ran = wait::until("the status is degraded", Duration::from_secs(5), || {
        let ran = millrace(&stack.run_dir(), &["status"]);
        ensure!(ran.code == 1, "{}", ran.stdout);
        Ok(ran)
    })
    .expect("bad YAML is noticed");
    assert!(ran.stdout.contains("degraded") && ran.stdout.contains("60-bad.yaml:"), "{}", ran.stdout);
    assert!(ran.stdout.contains("to mend:"), "{}", ran.stdout);
    let brief = millrace(&stack.run_dir(), &["status", "--brief"]);
    assert_eq!((brief.code, brief.stdout.lines().count()), (1, 1));
    assert!(brief.stdout.starts_with("manifests degraded: "), "{}", brief.stdout);
    let over = millrace(&stack.run_dir(), &["status", "--wait", "--wait-duration", "300ms"]);
    assert_eq!(over.code, 1, "it is still degraded when the time is over");
    let document = millrace(&stack.run_dir(), &["status", "-o", "json"]).json();
    assert_eq!(fields(&document["problems"][0]), ["field", "fix", "message", "object", "severity", "source"]);
}

#[test]
fn get_lists_every_kind_and_tells_what_is_not_there() {
    let stack = ready();
    let run = |arguments: &[&str]| millrace(&stack.run_dir(), arguments);
    let kinds = [
        ("ingress", "shop"),
        ("ingressclass", "cilium"),
        ("gateway", "edge"),
        ("gatewayclass", "millrace"),
        ("httproute", "catalog"),
        ("service", "web-v1"),
        ("secret", "shop-tls"),
    ];
    for (kind, name) in kinds {
        let ran = run(&["get", kind]);
        let named = ran.words().iter().any(|words| words.contains(&name));
        assert!(ran.code == 0 && named, "{kind}: {}{}", ran.stdout, ran.stderr);
        let one = run(&["get", kind, name, "-o", "json"]).json();
        assert_eq!(one["metadata"]["name"], name);
    }
    let list = run(&["get", "httproute", "-n", "shop", "-o", "json"]).json();
    assert_eq!((&list["kind"], list["items"].as_array().map(Vec::len)), (&Value::from("List"), Some(3)));
    let yaml = run(&["get", "gateway", "edge", "-o", "yaml"]).stdout;
    assert!(yaml.contains("kind: Gateway"), "{yaml}");

    let secret = run(&["get", "secret", "shop-tls", "-o", "json"]).json();
    let key = secret["data"]["tls.key"].as_str().unwrap_or_default();
    assert!(key.starts_with("[redacted] "), "{key}");

    let absent = run(&["get", "ingress", "teapot"]);
    assert_eq!((absent.code, absent.stdout.as_str()), (4, ""));
    assert_eq!(absent.stderr, "error: there is no ingress teapot\n");
    let none = run(&["get", "referencegrant"]);
    assert_eq!((none.code, none.stdout.as_str()), (0, ""));
    assert_eq!(none.stderr, "no referencegrant found\n");
}

#[test]
fn get_prints_the_table_that_people_know() {
    let stack = ready();
    let shown = millrace(&stack.run_dir(), &["get", "gateway"]).stdout;
    assert_eq!(
        shown,
        "NAMESPACE  NAME  CLASS   ADDRESS                      PROGRAMMED  LISTENERS\n\
         shop       edge  cilium  192.0.2.130,2001:db8:2::130  True        web(1),web-tls(1)\n"
    );
}

#[test]
fn describe_shows_what_an_object_became() {
    let stack = ready();
    let run = |arguments: &[&str]| millrace(&stack.run_dir(), arguments);
    let shown = run(&["describe", "ingress", "shop"]).stdout;
    for part in ["Read from:", "20-ingress.yaml", "Conditions:", "Listeners:", "Routes:", "Clusters:"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert!(shown.contains("hello.example.com") && shown.contains("forward to shop/web-v1:80"), "{shown}");
    assert!(shown.contains("accepted"), "the proxy has the listener: {shown}");
    let secret = run(&["describe", "secret", "shop/shop-tls"]);
    assert!(
        secret.stdout.contains("Used by:") && secret.stdout.contains("Ingress shop/shop"),
        "{}",
        secret.stdout
    );
    let document = run(&["describe", "svc", "catalog", "-n", "shop", "-o", "json"]).json();
    assert_eq!(document["object"]["metadata"]["name"], "catalog");
    assert_eq!(run(&["describe", "ingress", "teapot"]).code, 4);
    assert_eq!(run(&["describe", "teapot", "x"]).code, 2);
}

#[test]
fn a_name_in_two_namespaces_has_to_be_chosen() {
    let stack = ready();
    let twin = "apiVersion: v1\nkind: Service\nmetadata: {name: catalog, namespace: other}\n\
                spec: {clusterIP: 10.96.0.99, ports: [{port: 80}]}\n";
    stack.write_manifest("60-twin.yaml", twin).expect("a manifest");
    let ran = wait::until("the twin is read", Duration::from_secs(5), || {
        let ran = millrace(&stack.run_dir(), &["describe", "service", "catalog"]);
        ensure!(ran.code == 2, "{}", ran.stdout);
        Ok(ran)
    })
    .expect("a question with two answers is wrong usage");
    assert!(ran.stderr.contains("other, shop") && ran.stderr.contains("-n"), "{}", ran.stderr);
    assert_eq!(millrace(&stack.run_dir(), &["describe", "service", "catalog", "-n", "other"]).code, 0);
}

#[test]
fn services_are_listed_and_found_without_a_kernel_too() {
    let stack = ready();
    let run = |arguments: &[&str]| millrace(&stack.run_dir(), arguments);
    let shown = run(&["service", "list"]);
    assert!(shown.stdout.starts_with("ID  Frontend"), "{}", shown.stdout);
    assert!(shown.stdout.lines().next().is_some_and(|header| header.contains("Service Type  Backend")));
    let plain = shown.words().into_iter().find(|words| words.contains(&"10.96.0.30:80/TCP"));
    assert_eq!(plain.expect("a frontend")[2..5], ["ClusterIP", "1", "=>"]);
    let rows = run(&["service", "get", "shop/plain", "-o", "json"]).json();
    assert_eq!(fields(&rows[0]), ["backends", "frontend", "id", "proxy", "service", "type"]);
    assert_eq!(fields(&rows[0]["frontend"]), ["address", "port", "protocol"]);
    assert_eq!(fields(&rows[0]["backends"][0]), ["address", "port", "state"]);
    assert_eq!(run(&["service", "get", "10.96.0.30:80"]).code, 0);
    assert_eq!(run(&["svc", "get", "12345"]).code, 4);
}

#[test]
fn the_proxys_configuration_is_envoys_and_without_secrets() {
    let stack = ready();
    let run = |arguments: &[&str]| millrace(&stack.run_dir(), arguments);
    let dump = run(&["config", "dump"]).json();
    let kinds: Vec<&str> =
        dump["configs"].as_array().expect("configs").iter().filter_map(|c| c["@type"].as_str()).collect();
    assert_eq!(kinds.len(), 5, "{kinds:?}");
    assert!(kinds.iter().all(|kind| kind.starts_with("type.googleapis.com/envoy.admin.v3.")));
    assert!(!dump.to_string().contains("PRIVATE KEY") && dump.to_string().contains("redacted"));
    let one = run(&["config", "dump", "--resource", "clusters", "--name", "shop:web-v1:80"]).json();
    let clusters = one["configs"][0]["dynamic_active_clusters"].as_array().expect("clusters");
    assert_eq!((clusters.len(), &clusters[0]["cluster"]["name"]), (1, &Value::from("shop:web-v1:80")));
    assert_eq!(run(&["config", "dump", "--name", "teapot"]).code, 4);
    assert_eq!(run(&["config", "dump", "--resource", "teapot"]).code, 2);
}

#[test]
fn the_proxy_tells_what_it_counts_sends_to_and_listens_on() {
    let stack = ready();
    let run = |arguments: &[&str]| millrace(&stack.run_dir(), arguments);
    assert_eq!(get_plain(stack.http(), "hello.example.com", "/").expect("an answer").json()["pod"], "pod1");
    let stats = run(&["proxy", "stats", "upstream_rq_total"]);
    let counted = stats.stdout.lines().any(|line| {
        line == "cluster.shop_web-v1_80.upstream_rq_total: 1"
            || line == "cluster.shop:web-v1:80.upstream_rq_total: 1"
    });
    assert!(counted, "{}", stats.stdout);
    assert_eq!(run(&["proxy", "stats", "teapot"]).code, 4);
    let clusters = run(&["proxy", "clusters"]);
    assert_eq!(clusters.words()[0], ["CLUSTER", "ENDPOINT", "HEALTH", "WEIGHT", "ACTIVE"]);
    let web = clusters.words().into_iter().find(|words| words[0] == "shop:web-v1:80").expect("a cluster");
    assert_eq!((web[2], web[4]), ("HEALTHY", "0"));
    let listeners = run(&["proxy", "listeners"]);
    let http = listeners.words().into_iter().find(|words| words[0] == "http").expect("a listener");
    assert_eq!(http[1], stack.http().to_string());
}

#[test]
fn both_sides_of_xds_are_shown() {
    let stack = ready();
    let run = |arguments: &[&str]| millrace(&stack.run_dir(), arguments);
    let clients = run(&["xds", "clients"]);
    assert_eq!(clients.words()[0][..4], ["NODE", "PID", "PROTOCOL", "CONNECTED"]);
    assert_eq!((clients.words()[1][0], clients.words()[1][2]), ("l7proxy", "delta"));
    assert_eq!(run(&["xds", "clients", "-o", "json"]).json()[0]["protocol"], "delta");
    let resources = run(&["xds", "resources"]).json();
    assert_eq!(fields(&resources), ["resources", "revision"]);
    assert!(!resources.to_string().contains("PRIVATE KEY"));
    assert_eq!(run(&["tables"]).json(), serde_json::json!({"nodes": []}), "there is no kernel to fill");
    assert_eq!(run(&["tables", "teapot"]).code, 4);
}

#[test]
fn a_part_that_this_agent_does_not_have_is_exit_code_5() {
    let stack = ready();
    for arguments in [&["bpf", "list"][..], &["bpf", "lb", "list"], &["bpf", "counters", "list"]] {
        let ran = millrace(&stack.run_dir(), arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{arguments:?}");
        assert!(ran.stderr.contains("--redirect=on"), "{}", ran.stderr);
    }
}

#[test]
fn versions_of_all_programs_are_told_and_the_own_one_without_an_agent() {
    let stack = ready();
    let shown = millrace(&stack.run_dir(), &["version", "-o", "json"]).json();
    for part in ["client", "agent", "proxy"] {
        assert!(shown[part]["version"].is_string(), "{shown}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let alone = millrace(folder.path(), &["version"]);
    assert_eq!(alone.code, 3);
    assert!(alone.stdout.contains("client"), "{}", alone.stdout);
}

#[test]
fn events_tell_what_happened_and_what_happens() {
    let mut stack = ready();
    let run_dir = stack.run_dir();
    let remembered = millrace(&run_dir, &["events", "--last", "1000", "-o", "json"]);
    let events: Vec<Value> = remembered
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("a document a line"))
        .collect();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["kind"].as_str()).collect();
    for kind in
        ["agent-started", "object-added", "config-published", "xds-connected", "xds-acked", "worker-started"]
    {
        assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
    }
    assert_eq!(fields(&events[0]), ["details", "kind", "message", "sequence", "severity", "subject", "time"]);
    assert_eq!(millrace(&run_dir, &["events", "--last", "2"]).stdout.lines().count(), 2);
    assert_eq!(millrace(&run_dir, &["events", "--kind", "agent-*"]).stdout.lines().count(), 1);

    let mut following = command(&run_dir, &["events", "--follow", "--last", "1000", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("millrace is built");
    let mut lines = BufReader::new(following.stdout.take().expect("it is piped")).lines();
    let mut heard = |kind: &str, subject: &str| {
        for line in lines.by_ref() {
            let event: Value = serde_json::from_str(&line.expect("text")).expect("a document a line");
            if event["kind"] == kind && event["subject"] == subject {
                return Some(event);
            }
        }
        None
    };
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: late, namespace: shop}\n\
                spec: {clusterIP: 10.96.0.98, ports: [{port: 80}]}\n";
    stack.write_manifest("60-late.yaml", text).expect("a manifest");
    let added = heard("object-added", "Service shop/late").expect("the stream goes on");
    assert!(added["message"].as_str().is_some_and(|message| message.contains("60-late.yaml")), "{added}");

    let full = millrace(&run_dir, &["status", "--verbose", "-o", "json"]).json();
    let worker = full["processes"]["workers"][0]["pid"].as_i64().expect("a worker");
    let killed = Command::new("kill").args(["-9", &worker.to_string()]).status().expect("kill");
    assert!(killed.success());
    let died = heard("worker-restarted", "proxy").expect("the stream goes on");
    assert_eq!((&died["severity"], &died["details"]["restarts"]), (&Value::from("warning"), &Value::from(1)));

    stack.stop_agent();
    assert!(heard("nothing", "more").is_none(), "the stream ends with the agent");
    assert_eq!(following.wait().expect("it ends").code(), Some(3));
    let dead = millrace(&run_dir, &["status"]);
    assert_eq!(dead.code, 3);
    assert!(
        dead.stderr.contains("there is no such socket") && dead.stderr.contains("mesh-agent --manifests"),
        "{}",
        dead.stderr
    );
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_every_map_is_listed_and_services_have_their_identifiers() {
    let test = "kernel_every_map_is_listed_and_services_have_their_identifiers";
    let Some(world) = serving(test) else { return };
    let run_dir = world.stack.run_dir();
    let run = |arguments: &[&str]| millrace(&run_dir, arguments);
    let pod = &world.stack.topology.pods[0].namespace;
    assert_eq!(get(pod, at("10.96.0.20", 80), "catalog", "/").json()["headers"]["x-mesh"][0], "millrace");

    let maps = run(&["bpf", "list", "-o", "json"]).json();
    let maps: Vec<&str> =
        maps.as_array().expect("maps").iter().filter_map(|map| map["name"].as_str()).collect();
    assert!(maps.len() >= 10, "{maps:?}");
    for map in &maps {
        let table = run(&["bpf", map, "list"]);
        assert_eq!(table.code, 0, "{map}: {}", table.stderr);
        assert!(run(&["bpf", map, "list", "-o", "json"]).json().is_array(), "{map}");
    }

    let services = run(&["service", "list", "-o", "json"]).json();
    let services = services.as_array().expect("services");
    assert!(services.iter().all(|row| row["id"].is_u64()), "all are in the kernel: {services:#?}");
    let in_kernel = run(&["bpf", "services", "list", "-o", "json"]).json();
    assert_eq!(in_kernel.as_array().map(Vec::len), Some(services.len()));
    assert_eq!(fields(&in_kernel[0]), ["address", "backends", "flags", "id", "port", "protocol", "scope"]);

    let balanced = run(&["bpf", "lb", "list"]).stdout;
    assert!(balanced.contains("10.244.1.11:8080 (") && balanced.contains("L7 proxy"), "{balanced}");
    let frontends = run(&["bpf", "lb", "list", "--frontends"]);
    assert!(frontends.words().iter().any(|words| words.contains(&"10.96.0.30:80")), "{}", frontends.stdout);
    let backends = run(&["bpf", "lb", "list", "--backends"]);
    assert_eq!(backends.words()[0], ["ID", "BACKEND", "ADDRESS", "PROTOCOL", "STATE"]);

    let id = services[0]["id"].as_u64().expect("an identifier").to_string();
    assert_eq!(run(&["service", "get", &id, "-o", "json"]).json()[0], services[0]);
    let counters = run(&["bpf", "metrics", "list", "-o", "json"]).json();
    let redirected =
        counters.as_array().expect("counters").iter().find(|row| row["name"] == "redirected_tc_new");
    assert!(redirected.is_some_and(|row| row["value"].as_u64() > Some(0)), "{counters}");

    let described = run(&["describe", "service", "catalog", "-o", "json"]).json();
    assert!(described["frontends"].as_array().is_some_and(|rows| rows.iter().all(|row| row["id"].is_u64())));
    let tables = run(&["tables", "frontends", "-o", "json"]).json();
    assert_eq!(tables.as_array().map(Vec::len), Some(services.len()), "what should be there is there");

    let verbose = run(&["status", "--verbose"]);
    assert_eq!(verbose.code, 0, "{}", verbose.stdout);
    for part in ["Datapath, on ", "What kernel ", "Maps:", "Programs:"] {
        assert!(verbose.stdout.contains(part), "{part} is not in {}", verbose.stdout);
    }
    let planned = run(&["events", "--kind", "plan-chosen", "--last", "100"]).stdout;
    assert!(planned.lines().count() >= 3, "{planned}");
}
