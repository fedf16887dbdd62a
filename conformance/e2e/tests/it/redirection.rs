//! How traffic comes to the proxy, and that it would not without the programs. Each scenario looks from all
//! sides: what the kernel counted, what the backend saw, what the proxy's access log says was dialled.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use mesh_testkit::topology::{CLIENT_V4, NODE_V4, NODE_V6};
use mesh_testkit::{http::Connection, wait};

use crate::fixture::{at, counted, get, redirecting, serving, tls};

const CATALOG: [&str; 2] = ["10.96.0.20", "fd00:10:96::20"];
const PLAIN: [&str; 2] = ["10.96.0.30", "fd00:10:96::30"];

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_client_reaches_ingress_addresses_that_the_node_does_not_own() {
    let Some(world) = serving("kernel_a_client_reaches_ingress_addresses_that_the_node_does_not_own") else {
        return;
    };
    let (stack, client) = (&world.stack, &world.stack.topology.client);
    for v4 in [true, false] {
        let address = stack.address_of("ingress", "shop", v4).expect("an address of the pool");
        let owned =
            stack.topology.node.ip(&["-o", "addr", "show", "to", &address.to_string()]).expect("addresses");
        assert_eq!(owned, "", "the node does not own it");

        let to = SocketAddr::new(address, 80);
        let (answer, redirected) =
            counted(stack, "redirected_tc_new", || get(client, to, "hello.example.com", "/x"));
        let seen = answer.json();
        assert_eq!((seen["pod"].as_str(), redirected), (Some("pod1"), 1));
        assert!(is_of_the_node(&seen["client"]), "north-south the node asks the backend: {seen}");
        wait::until("the access log has the dialled address", Duration::from_secs(3), || {
            let log = stack.log("access.log");
            ensure!(log.contains(&format!("\"downstream_local_address\":\"{to}\"")), "{log}");
            Ok(())
        })
        .expect("the accepted socket's local address is what the client dialled");

        let stream = client.connect(SocketAddr::new(address, 443)).expect("a connection");
        let mut connection = Connection::open(stream, &tls(&world.certificate)).expect("a TLS handshake");
        let seen = connection.get("shop.example.com", "/catalog").expect("an answer").json();
        assert_eq!(seen["pod"], "pod3");
    }
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_client_reaches_the_addresses_a_gateway_asks_for() {
    let Some(world) = serving("kernel_a_client_reaches_the_addresses_a_gateway_asks_for") else { return };
    for address in ["192.0.2.130", "2001:db8:2::130"] {
        let client = &world.stack.topology.client;
        let ask = || get(client, at(address, 80), "gw.example.com", "/v2/shoes");
        let (answer, redirected) = counted(&world.stack, "redirected_tc_new", ask);
        assert_eq!((answer.json()["path"].as_str(), redirected), (Some("/shoes"), 1));
    }
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_an_address_from_the_command_line_serves_an_ingress() {
    let test = "kernel_an_address_from_the_command_line_serves_an_ingress";
    let Some(mut world) = redirecting(test, &["--address", "203.0.113.7"]) else { return };
    world.stack.start_agent().expect("the agent starts");
    world.stack.wait_ready().expect("the product is ready");
    let client = &world.stack.topology.client;
    let answer = get(client, at("203.0.113.7", 80), "hello.example.com", "/");
    assert_eq!(answer.json()["pod"], "pod1");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_without_a_pool_an_ingress_is_served_on_the_nodes_own_addresses() {
    let test = "kernel_without_a_pool_an_ingress_is_served_on_the_nodes_own_addresses";
    let Some(mut world) = redirecting(test, &[]) else { return };
    std::fs::remove_file(world.stack.manifests().join("50-addresses.yaml")).expect("the pool is a file");
    world.stack.start_agent().expect("the agent starts");
    world.stack.wait_ready().expect("the product is ready");
    let client = &world.stack.topology.client;
    for address in [NODE_V4.to_string(), NODE_V6.to_string()] {
        let answer = get(client, at(&address, 80), "hello.example.com", "/");
        assert_eq!(answer.json()["pod"], "pod1");
        let stream = client.connect(at(&address, 443)).expect("a connection");
        let mut connection = Connection::open(stream, &tls(&world.certificate)).expect("a TLS handshake");
        assert_eq!(connection.get("shop.example.com", "/catalog").expect("an answer").json()["pod"], "pod3");
    }
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_pod_goes_through_the_proxy_and_the_backend_sees_its_address() {
    let test = "kernel_a_pod_goes_through_the_proxy_and_the_backend_sees_its_address";
    let Some(world) = serving(test) else { return };
    let pod = &world.stack.topology.pods[0];
    for (address, own) in CATALOG.into_iter().zip(pod.addresses()) {
        let ask = || get(&pod.namespace, at(address, 80), "catalog", "/");
        let (answer, redirected) = counted(&world.stack, "redirected_tc_new", ask);
        let seen = answer.json();
        assert_eq!(seen["headers"]["x-mesh"][0], "millrace");
        assert_eq!((seen["client"].as_str(), redirected), (Some(own.to_string().as_str()), 1));
    }
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_pod_that_is_its_own_backend_is_answered_through_the_proxy() {
    let Some(world) = serving("kernel_a_pod_that_is_its_own_backend_is_answered_through_the_proxy") else {
        return;
    };
    // Pod 3 is the catalog's only backend. Its own address cannot come to it from outside.
    for address in CATALOG {
        let answer = get(&world.stack.topology.pods[2].namespace, at(address, 80), "catalog", "/");
        let seen = answer.json();
        assert_eq!((answer.status.as_u16(), &seen["pod"]), (200, &"pod3".into()), "{seen}");
        assert!(is_of_the_node(&seen["client"]), "{seen}");
    }
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_service_that_asks_for_it_sees_the_nodes_address_instead_of_the_pods() {
    let test = "kernel_a_service_that_asks_for_it_sees_the_nodes_address_instead_of_the_pods";
    let Some(mut world) = redirecting(test, &[]) else { return };
    let path = world.stack.manifests().join("10-services.yaml");
    let text = std::fs::read_to_string(path).expect("the quickstart has Services");
    let annotated = text.replace(
        "metadata: {name: catalog, namespace: shop}",
        "metadata: {name: catalog, namespace: shop, annotations: {service.millrace.io/client-address: node}}",
    );
    assert_ne!(text, annotated);
    world.stack.write_manifest("10-services.yaml", &annotated).expect("a manifest");
    world.stack.start_agent().expect("the agent starts");
    world.stack.wait_ready().expect("the product is ready");
    let pod = &world.stack.topology.pods[0];
    let seen = get(&pod.namespace, at(CATALOG[0], 80), "catalog", "/").json();
    assert_eq!(seen["headers"]["x-mesh"][0], "millrace");
    assert!(is_of_the_node(&seen["client"]), "{seen}");
    assert_eq!(seen["headers"]["x-forwarded-for"][0], pod.v4.to_string());
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_process_of_the_node_goes_through_the_proxy() {
    let Some(world) = serving("kernel_a_process_of_the_node_goes_through_the_proxy") else { return };
    for address in CATALOG {
        let ask = || get(&world.stack.topology.node, at(address, 80), "catalog", "/");
        let (answer, redirected) = counted(&world.stack, "redirected_sk_lookup", ask);
        assert_eq!((answer.json()["headers"]["x-mesh"][0].as_str(), redirected), (Some("millrace"), 1));
    }
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_service_without_routes_never_touches_the_proxy() {
    let Some(world) = serving("kernel_a_service_without_routes_never_touches_the_proxy") else { return };
    let pod = &world.stack.topology.pods[0];
    for (address, hook) in PLAIN.into_iter().zip(["socket_lb_connect4", "socket_lb_connect6"]) {
        let ask = || get(&pod.namespace, at(address, 80), "plain", "/");
        let ((answer, redirected), connected) =
            counted(&world.stack, hook, || counted(&world.stack, "redirected_tc_new", ask));
        let seen = answer.json();
        assert!(seen["pod"].is_string(), "{seen}");
        assert_eq!(seen["headers"]["x-request-id"], serde_json::Value::Null, "no proxy has touched it");
        assert_eq!((connected, redirected), (1, 0));
    }
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_without_the_programs_nothing_reaches_the_proxy() {
    let Some(mut world) = serving("kernel_without_the_programs_nothing_reaches_the_proxy") else { return };
    let ingress = SocketAddr::new(world.stack.address_of("ingress", "shop", true).expect("an address"), 80);
    let pod = &world.stack.topology.pods[0];
    let client = &world.stack.topology.client;
    assert_eq!(get(client, ingress, "hello.example.com", "/").status, 200);
    assert_eq!(get(&pod.namespace, at(CATALOG[0], 80), "catalog", "/").status, 200);

    world.stack.detach_programs().expect("pins are files");
    for (from, to) in [
        (&world.stack.topology.client, ingress),
        (&world.stack.topology.pods[0].namespace, at(CATALOG[0], 80)),
        (&world.stack.topology.pods[0].namespace, at(PLAIN[0], 80)),
    ] {
        // The kernel takes a link off a moment after its last holder is gone.
        wait::until("nobody answers", Duration::from_secs(5), || {
            ensure!(from.connect(to).is_err(), "{} still reaches {to}", from.name());
            Ok(())
        })
        .expect("without the programs the address is nobody's");
    }
}

/// Which family the proxy takes to a backend of both is its own affair.
fn is_of_the_node(client: &serde_json::Value) -> bool {
    [NODE_V4.to_string(), NODE_V6.to_string()].iter().any(|own| client == own.as_str())
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_forwarded_headers_of_a_client_outside_are_not_believed() {
    let Some(world) = serving("kernel_forwarded_headers_of_a_client_outside_are_not_believed") else {
        return;
    };
    let ingress = SocketAddr::new(world.stack.address_of("ingress", "shop", true).expect("an address"), 80);
    let mut connection = crate::fixture::open(&world.stack.topology.client, ingress);
    let forged =
        [("x-forwarded-for", "192.0.2.66"), ("x-forwarded-proto", "https"), ("x-envoy-internal", "true")];
    let seen = connection.call("GET", "hello.example.com", "/", &forged).expect("an answer").json();
    let forwarded = seen["headers"]["x-forwarded-for"][0].as_str().unwrap_or_default().to_owned();
    assert!(forwarded.ends_with(&CLIENT_V4.to_string()), "{seen}");
    assert_eq!(seen["headers"]["x-forwarded-proto"][0], "http");
    assert_eq!(seen["headers"]["x-envoy-internal"], serde_json::Value::Null);
}
