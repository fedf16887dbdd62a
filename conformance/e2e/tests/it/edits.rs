//! Changes under traffic.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use mesh_testkit::wait;

use crate::fixture::{at, get, open, serving};

const CATALOG: &str = "10.96.0.20";
const EDITS: usize = 200;
/// Between two requests of a client: enough of them, and time is not measured on cores that clients keep busy.
const PACE: Duration = Duration::from_millis(3);
/// From the moment a file is in place to the first answer made from it.
const SERVED_WITHIN: Duration = Duration::from_millis(50);

fn mesh_route(value: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: catalog, namespace: shop}}\nspec:\n  \
         parentRefs: [{{group: \"\", kind: Service, name: catalog, port: 80}}]\n  rules:\n  - filters:\n    \
         - type: RequestHeaderModifier\n      \
         requestHeaderModifier: {{set: [{{name: x-mesh, value: {value}}}]}}\n    \
         backendRefs: [{{name: catalog, port: 80}}]\n"
    )
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_an_edit_is_served_within_50_ms_and_no_request_fails_meanwhile() {
    let test = "kernel_an_edit_is_served_within_50_ms_and_no_request_fails_meanwhile";
    let Some(world) = serving(test) else { return };
    let stack = &world.stack;
    let to = at(CATALOG, 80);
    let stop = AtomicBool::new(false);
    let mut took = Vec::new();
    let asked = std::thread::scope(|scope| {
        // One client keeps its connection, one opens a new one for each request.
        let kept = scope.spawn(|| {
            let mut connection = open(stack.pod(2), to);
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = connection.get("catalog", "/").expect("a kept connection goes on");
                assert_eq!(answer.status, 200);
                count += 1;
                std::thread::sleep(PACE);
            }
            count
        });
        let fresh = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(get(stack.pod(1), to, "catalog", "/").status, 200);
                count += 1;
                std::thread::sleep(PACE);
            }
            count
        });
        let mut connection = open(stack.pod(1), to);
        for edit in 0..EDITS {
            let value = format!("edit-{edit}");
            stack.write_manifest("40-mesh.yaml", &mesh_route(&value)).expect("a manifest");
            let written = Instant::now();
            let served = wait::until("the edit is served", Duration::from_secs(2), || {
                let seen = connection.get("catalog", "/")?.json();
                ensure!(seen["headers"]["x-mesh"][0] == value.as_str(), "{seen}");
                Ok(())
            });
            took.push(written.elapsed());
            if let Err(error) = served {
                stop.store(true, Ordering::Relaxed);
                panic!("{error:#}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        [kept.join().expect("the kept connection"), fresh.join().expect("the fresh connections")]
    });
    took.sort_unstable();
    let (p50, p99) = (took[EDITS / 2], took[EDITS * 99 / 100]);
    eprintln!("{EDITS} edits: p50 {p50:?}, p99 {p99:?}; {asked:?} requests on kept and fresh connections");
    assert!(asked.iter().all(|count| *count > 0));
    assert!(
        p99 <= SERVED_WITHIN,
        "p99 {p99:?}, the slowest {:?}; the agent says:\n{}",
        &took[EDITS - 5..],
        stack.log("agent.log")
    );
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_route_comes_and_goes_while_a_pod_asks() {
    let Some(world) = serving("kernel_a_route_comes_and_goes_while_a_pod_asks") else { return };
    let stack = &world.stack;
    let mesh = stack.manifests().join("40-mesh.yaml");
    for round in ["first", "second"] {
        std::fs::remove_file(&mesh).expect("the route is a file");
        wait::until("without a route the proxy is left out", Duration::from_secs(3), || {
            let seen = get(stack.pod(1), at(CATALOG, 80), "catalog", "/").json();
            ensure!(seen["pod"] == "pod3" && seen["headers"]["x-mesh"].is_null(), "{seen}");
            Ok(())
        })
        .expect("balanced in the kernel again");
        stack.write_manifest("40-mesh.yaml", &mesh_route(round)).expect("a manifest");
        wait::until("with a route the proxy is asked", Duration::from_secs(3), || {
            let seen = get(stack.pod(1), at(CATALOG, 80), "catalog", "/").json();
            ensure!(seen["headers"]["x-mesh"][0] == round, "{seen}");
            Ok(())
        })
        .expect("through the proxy again");
    }
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_traffic_goes_on_while_the_agent_is_away_and_when_it_comes_back() {
    let test = "kernel_traffic_goes_on_while_the_agent_is_away_and_when_it_comes_back";
    let Some(mut world) = serving(test) else { return };
    let to = at(CATALOG, 80);
    let mut kept = open(world.stack.pod(1), to);
    let mut ask = |stack: &mesh_conformance::Stack| {
        assert_eq!(kept.get("catalog", "/").expect("the kept connection goes on").status, 200);
        assert_eq!(get(stack.pod(2), to, "catalog", "/").status, 200);
    };
    ask(&world.stack);
    world.stack.stop_agent();
    ask(&world.stack);
    world.stack.start_agent().expect("the agent starts again");
    ask(&world.stack);
    world.stack.wait_ready().expect("it is ready again");
    ask(&world.stack);
}
