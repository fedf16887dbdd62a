//! Processes that die, are replaced, or are away.

use std::time::Duration;

use anyhow::ensure;
use mesh_testkit::wait;

use crate::fixture::{at, fault, get, serving};

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_an_agent_killed_at_50_random_moments_costs_no_connection_and_prunes_nothing() {
    fault(
        "kernel_an_agent_killed_at_50_random_moments_costs_no_connection_and_prunes_nothing",
        "agent-killed",
    );
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_without_an_agent_for_20_s_a_killed_worker_serves_the_last_good_configuration() {
    fault(
        "kernel_without_an_agent_for_20_s_a_killed_worker_serves_the_last_good_configuration",
        "agent-away",
    );
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_killed_worker_is_replaced_within_2_s_and_waiting_connections_are_answered() {
    fault(
        "kernel_a_killed_worker_is_replaced_within_2_s_and_waiting_connections_are_answered",
        "worker-killed",
    );
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_killed_starter_is_replaced_by_the_agent_and_nothing_hangs() {
    fault("kernel_a_killed_starter_is_replaced_by_the_agent_and_nothing_hangs", "starter-killed");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_ten_replacements_of_the_proxy_lose_none_of_35000_requests() {
    fault("kernel_ten_replacements_of_the_proxy_lose_none_of_35000_requests", "proxy-upgraded");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_after_everything_was_killed_the_clean_up_leaves_nothing() {
    fault("kernel_after_everything_was_killed_the_clean_up_leaves_nothing", "cleaned-up");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_an_address_stays_with_its_object_when_a_killed_agent_comes_back() {
    let test = "kernel_an_address_stays_with_its_object_when_a_killed_agent_comes_back";
    let Some(mut world) = serving(test) else { return };
    let stack = &mut world.stack;
    let first =
        std::fs::read_to_string(stack.manifests().join("20-ingress.yaml")).expect("the quickstart has one");
    let (_, ingress) = first.rsplit_once("---\n").expect("the Ingress is the last document");
    let second = ingress.replace("name: shop, namespace: shop", "name: second, namespace: shop");
    assert_ne!(second, ingress);
    stack
        .write_manifest("21-second.yaml", &second.replace("example.com", "example.net"))
        .expect("a manifest");
    let given = wait::until("the second Ingress has an address", Duration::from_secs(5), || {
        stack.address_of("ingress", "second", true)
    })
    .expect("an address");
    assert_ne!(given, stack.address_of("ingress", "shop", true).expect("an address"));
    // Whoever gives addresses anew would give the second one that of the first.
    stack
        .write_manifest("20-ingress.yaml", first.rsplit_once("---\n").expect("as above").0)
        .expect("a manifest");
    wait::until("the first Ingress is gone", Duration::from_secs(5), || {
        ensure!(stack.address_of("ingress", "shop", true).is_err(), "it is still there");
        Ok(())
    })
    .expect("the first Ingress goes");
    stack.kill_agent().expect("an agent runs");
    stack.start_agent().expect("the agent starts again");
    let kept = wait::until("the second Ingress has an address", Duration::from_secs(5), || {
        stack.address_of("ingress", "second", true)
    });
    assert_eq!(kept.expect("an address"), given);
}

#[test]
fn a_backend_that_dies_in_mid_body_is_never_taken_for_a_whole_answer() {
    crate::fixture::plain_fault("backend-dies");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_an_agent_that_has_not_read_the_api_server_yet_leaves_the_kernel_as_it_is() {
    let test = "kernel_an_agent_that_has_not_read_the_api_server_yet_leaves_the_kernel_as_it_is";
    let Some(mut world) = serving(test) else { return };
    let stack = &mut world.stack;
    let before = stack.ask("/v1/bpf/services").expect("the services");
    assert!(before.as_array().is_some_and(|rows| !rows.is_empty()), "{before}");
    stack.kill_agent().expect("killed");
    // Nobody is there, and nobody will be.
    stack.start_agent_of_an_api_server("http://127.0.0.1:9").expect("the agent starts");
    wait::until("the proxy has told the new agent what it serves", Duration::from_secs(20), || {
        let clients = stack.ask("/v1/xds/clients")?;
        ensure!(clients.to_string().contains("acknowledged"), "{clients}");
        Ok(())
    })
    .expect("the proxy connects again");
    // Its word comes before any object does; what follows from it is written within a look at everything.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(stack.ask("/v1/bpf/services").expect("the services"), before);
    let client = &stack.topology.client;
    let answer = get(client, at("192.0.2.130", 80), "gw.example.com", "/v2/shoes");
    assert_eq!(answer.json()["path"].as_str(), Some("/shoes"));
}
