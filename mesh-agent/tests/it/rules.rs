//! What the roles ask an API server for is what they are granted.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::ensure;
use mesh_k8s_reflect::{Needs, Role, Rule, rules};
use mesh_testkit::api_server::{ApiServer, Asked};
use mesh_testkit::process::Guard;
use mesh_testkit::wait::until;
use serde_json::json;

use crate::fixture::server;

const WITHIN: Duration = Duration::from_secs(20);

/// A verb, a group, and a resource with its part.
type Right = (String, String, String);

fn right(asked: &Asked) -> Right {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, mut rest) = match parts.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => panic!("no resource: {path}"),
    };
    if let ["namespaces", _, more @ ..] = rest
        && !more.is_empty()
    {
        rest = more;
    }
    let is_one = rest.len() > 1;
    let verb = match asked.method.as_str() {
        "GET" if is_one => "get",
        "GET" if query.contains("watch=") => "watch",
        "GET" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        other => panic!("no verb: {other}"),
    };
    let part = rest.get(2).map(|part| format!("/{part}")).unwrap_or_default();
    (verb.to_owned(), group.to_owned(), format!("{}{part}", rest[0]))
}

fn granted(role: Role, is_meant: impl Fn(&Rule) -> bool) -> BTreeSet<Right> {
    let rights = rules(role).into_iter().filter(is_meant).flat_map(|rule| {
        rule.verbs
            .iter()
            .map(move |verb| ((*verb).to_owned(), rule.group.to_owned(), rule.resource.to_owned()))
    });
    rights.collect()
}

/// An old server streams no list: then there is one more verb.
fn old_server() -> ApiServer {
    let server = server();
    server.stream_lists(false);
    server
}

fn check(server: &ApiServer, role: Role, is_used: impl Fn(&Rule) -> bool) {
    let (used, granted) = (granted(role, is_used), granted(role, |_| true));
    until("everything that is granted is asked for", WITHIN, || {
        let asked: BTreeSet<Right> = server.asked().iter().map(right).collect();
        let missing: Vec<&Right> = used.difference(&asked).collect();
        ensure!(missing.is_empty(), "nobody asked for {missing:?}");
        Ok(())
    })
    .unwrap();
    let asked: BTreeSet<Right> = server.asked().iter().map(right).collect();
    let more: Vec<&Right> = asked.difference(&granted).collect();
    assert!(more.is_empty(), "nobody may {more:?}");
}

#[test]
fn an_agent_asks_for_what_it_is_granted_and_nothing_else() {
    let server = old_server();
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_mesh-agent"));
    agent.env("MILLRACE_RUN_DIR", folder.path()).args(["--k8s-api-server-urls", &server.url()]);
    agent.args(["--redirect", "off", "--start-proxy", "false"]);
    let _agent = Guard::start(agent.stdin(Stdio::null()).stderr(Stdio::null())).unwrap();
    // What an agent needs as the pods' network is asked for on nodes of a cluster only.
    check(&server, Role::Agent, |rule| rule.needs == Needs::Nothing);
}

#[test]
fn an_operator_asks_for_what_it_is_granted_and_nothing_else() {
    let server = old_server();
    let metadata = |name: &str| json!({"name": name, "namespace": "shop"});
    server.put(
        "/apis/networking.k8s.io/v1/ingressclasses",
        json!({"metadata": {"name": "cilium"}, "spec": {"controller": "cilium.io/ingress-controller"}}),
    );
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    server.put(
        "/apis/networking.k8s.io/v1/ingresses",
        json!({
            "metadata": metadata("web"), "spec": {"ingressClassName": "cilium", "defaultBackend": backend},
        }),
    );
    server.put(
        "/apis/cilium.io/v2/ciliumloadbalancerippools",
        json!({"metadata": {"name": "p"}, "spec": {"blocks": [{"cidr": "192.0.2.64/28"}]}}),
    );
    let gateway = |plural: &str| format!("/apis/gateway.networking.k8s.io/v1/{plural}");
    server.put(
        &gateway("gatewayclasses"),
        json!({"metadata": {"name": "millrace"}, "spec": {"controllerName": "millrace.io/gateway-controller"}}),
    );
    server.put(
        &gateway("gateways"),
        json!({"metadata": metadata("edge"), "spec": {
            "gatewayClassName": "millrace", "listeners": [{"name": "web", "port": 80, "protocol": "HTTP"}],
        }}),
    );
    server.put(
        &gateway("httproutes"),
        json!({"metadata": metadata("r"), "spec": {
            "parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
        }}),
    );
    // An identity that a pod has, and one that nobody has.
    for name in ["300", "301"] {
        let identity = json!({"metadata": {"name": name}, "security-labels": {"k8s:app": name}});
        server.put("/apis/cilium.io/v2/ciliumidentities", identity);
    }
    let status = json!({"id": 1, "identity": {"id": 300}});
    server.put("/apis/cilium.io/v2/ciliumendpoints", json!({"metadata": metadata("web"), "status": status}));
    // One gets a range, and there is none for the other.
    for name in ["one", "two"] {
        server.put("/apis/cilium.io/v2/ciliumnodes", json!({"metadata": {"name": name}, "spec": {}}));
    }
    let mut operator = Command::new(env!("CARGO_BIN_EXE_mesh-agent"));
    operator.args(["operator", "--k8s-api-server-urls", &server.url()]);
    operator.args(["--ipam", "cluster-pool", "--cluster-pool-ipv4-cidr", "10.7.0.0/24"]);
    operator.args(["--leader-election-lease-duration", "3s", "--leader-election-renew-deadline", "2s"]);
    operator.args(["--leader-election-retry-period", "100ms"]);
    let _operator = Guard::start(operator.stdin(Stdio::null()).stderr(Stdio::null())).unwrap();
    check(&server, Role::Operator, |_| true);
}
