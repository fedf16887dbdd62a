//! Statuses that the operator writes.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use mesh_testkit::api_server::ApiServer;
use mesh_testkit::process::Guard;
use mesh_testkit::wait::until;
use serde_json::{Value, json};

const INGRESSES: &str = "/apis/networking.k8s.io/v1/ingresses";
const CLASSES: &str = "/apis/networking.k8s.io/v1/ingressclasses";
const GATEWAYS: &str = "/apis/gateway.networking.k8s.io/v1/gateways";
const GATEWAY_CLASSES: &str = "/apis/gateway.networking.k8s.io/v1/gatewayclasses";
const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/httproutes";
const POOLS: &str = "/apis/cilium.io/v2/ciliumloadbalancerippools";
const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";
const COLLECTIONS: [&str; 12] = [
    "/api/v1/namespaces",
    "/api/v1/nodes",
    "/api/v1/secrets",
    "/api/v1/services",
    "/apis/discovery.k8s.io/v1/endpointslices",
    CLASSES,
    INGRESSES,
    GATEWAY_CLASSES,
    GATEWAYS,
    ROUTES,
    POOLS,
    LEASES,
];
const WITHIN: Duration = Duration::from_secs(20);

fn operator(server: &ApiServer) -> Guard {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-agent"));
    command.args(["operator", "--k8s-api-server-urls", &server.url()]);
    command.args(["--leader-election-lease-duration", "3s", "--leader-election-renew-deadline", "2s"]);
    command.args(["--leader-election-retry-period", "100ms"]);
    Guard::start(command.stdin(Stdio::null()).stderr(Stdio::null())).unwrap()
}

fn cluster() -> ApiServer {
    let server = ApiServer::start(&COLLECTIONS).unwrap();
    server.put(POOLS, json!({"metadata": {"name": "p"}, "spec": {"blocks": [{"cidr": "192.0.2.64/28"}]}}));
    server.put(
        CLASSES,
        json!({
            "metadata": {"name": "cilium"}, "spec": {"controller": "cilium.io/ingress-controller"},
        }),
    );
    server.put(
        GATEWAY_CLASSES,
        json!({
            "metadata": {"name": "millrace"}, "spec": {"controllerName": "millrace.io/gateway-controller"},
        }),
    );
    server.put(
        "/api/v1/services",
        json!({
            "metadata": {"name": "web", "namespace": "shop"}, "spec": {"ports": [{"port": 80}]},
        }),
    );
    server.put(
        INGRESSES,
        json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "ingressClassName": "cilium",
                "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}},
            },
        }),
    );
    server.put(GATEWAYS, json!({
        "metadata": {"name": "edge", "namespace": "shop"},
        "spec": {"gatewayClassName": "millrace", "listeners": [{"name": "web", "port": 80, "protocol": "HTTP"}]},
    }));
    server.put(ROUTES, json!({
        "metadata": {"name": "r", "namespace": "shop"},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]},
    }));
    server
}

fn status(server: &ApiServer, collection: &str, name: &str) -> Value {
    server.get(collection, "shop", name).unwrap()["status"].clone()
}

fn is_true(conditions: &Value, kind: &str) -> bool {
    let mut all = conditions.as_array().into_iter().flatten();
    all.any(|condition| condition["type"] == kind && condition["status"] == "True")
}

fn written(server: &ApiServer) -> anyhow::Result<()> {
    let ingress = status(server, INGRESSES, "web");
    ingress["loadBalancer"]["ingress"][0]["ip"].as_str().context("the Ingress has no address")?;
    let gateway = status(server, GATEWAYS, "edge");
    ensure!(is_true(&gateway["conditions"], "Programmed"), "{gateway}");
    ensure!(gateway["listeners"][0]["attachedRoutes"] == 1, "{gateway}");
    let route = status(server, ROUTES, "r");
    ensure!(is_true(&route["parents"][0]["conditions"], "Accepted"), "{route}");
    Ok(())
}

#[test]
fn statuses_are_written_once_by_one_of_two_operators_and_left_alone_by_the_next() {
    let server = cluster();
    let first = operator(&server);
    let second = operator(&server);
    until("all statuses", WITHIN, || written(&server)).unwrap();
    let address = status(&server, INGRESSES, "web");
    // A lease is renewed ten times a second: so many renewals later somebody who wanted to write would have.
    let renewed = server.count("PUT");
    until("further renewals", WITHIN, || {
        ensure!(server.count("PUT") > renewed + 10, "not yet");
        Ok(())
    })
    .unwrap();
    assert_eq!(server.count("PATCH"), 4, "{:?}", server.asked());
    // They die; a third one takes the lease when it is over, and finds everything as it should be.
    drop((first, second));
    let _third = operator(&server);
    let holder = |server: &ApiServer| {
        server.get(LEASES, "kube-system", "millrace-operator").unwrap()["spec"]["holderIdentity"].clone()
    };
    let before = holder(&server);
    until("another holder", WITHIN, || {
        ensure!(holder(&server) != before, "not yet");
        Ok(())
    })
    .unwrap();
    // What changes from now on is written by it, and nothing else.
    server.delete(ROUTES, "shop", "r");
    until("the route is no longer counted", WITHIN, || {
        ensure!(status(&server, GATEWAYS, "edge")["listeners"][0]["attachedRoutes"] == 0, "not yet");
        Ok(())
    })
    .unwrap();
    assert_eq!(server.count("PATCH"), 5, "{:?}", server.asked());
    assert_eq!(status(&server, INGRESSES, "web"), address);
}
