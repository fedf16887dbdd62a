//! What goes wrong with an API server and what is sent by it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_k8s_api::Kind;
use mesh_k8s_reflect::{ApiState, Cause, Phase};
use mesh_model::NamespacedName;
use mesh_testkit::api_server::{ApiServer, Fault};
use serde_json::json;

use crate::fixture::{CORE, Followed, INGRESSES, SERVICES, asked, phase, ports, service};

#[tokio::test]
async fn after_410_everything_is_read_again_and_what_did_not_change_is_shared() {
    let server = ApiServer::start(&CORE).unwrap();
    for name in ["kept", "gone"] {
        server.put(SERVICES, service(name, 80));
    }
    let mut followed = Followed::of(&server).await;
    let before = followed.read().await;
    // The watches end, cannot begin again, and meanwhile one object goes: nobody will ever tell.
    server.fail("watch=", Fault::Status(500, 0), 40);
    server.cut_watches();
    server.delete(SERVICES, "shop", "gone");
    server.compact();
    server.heal();
    let after = followed.until("the removal", |state| state.objects.services.len() == 1).await;
    let kept = NamespacedName::new("shop", "kept");
    assert!(Arc::ptr_eq(&before.objects.services[&kept], &after.objects.services[&kept]));
}

#[tokio::test]
async fn a_watch_that_is_cut_goes_on_where_it_was_without_a_new_list() {
    let server = ApiServer::start(&CORE).unwrap();
    server.put(SERVICES, service("web", 80));
    let mut followed = Followed::of(&server).await;
    followed.read().await;
    for port in 81..84 {
        server.cut_watches();
        server.put(SERVICES, service("web", port));
        followed.until("the change", |state| ports(state)[0].1 == i32::from(port)).await;
    }
    assert_eq!(server.count("services?&watch=true&timeoutSeconds"), server.count("services?"));
    let lists = server
        .asked()
        .into_iter()
        .filter(|asked| asked.path.starts_with(SERVICES) && asked.path.contains("sendInitialEvents=true"));
    assert_eq!(lists.count(), 1, "{:?}", server.asked());
}

#[tokio::test]
async fn while_the_server_is_away_the_last_state_stays_and_it_is_found_again() {
    let mut server = ApiServer::start(&CORE).unwrap();
    server.put(SERVICES, service("web", 80));
    let mut followed = Followed::of(&server).await;
    let before = followed.read().await;
    server.stop();
    let away = followed
        .until("it is told that the server is away", |state| {
            state.watches.iter().all(|w| matches!(w.phase, Phase::Failing { .. } | Phase::Absent))
        })
        .await;
    assert!(Arc::ptr_eq(&before.objects, &away.objects) && before.revision == away.revision);
    let Phase::Failing { was_read: true, failure, .. } = phase(&away, Kind::Service) else { panic!() };
    assert_eq!(failure.cause, Cause::Unreachable);
    assert!(
        failure.message.contains("refused") && failure.fix.contains("--k8s-api-server-urls"),
        "{failure:?}"
    );
    server.put(SERVICES, service("web", 81));
    server.start_again().unwrap();
    followed.until("the change meanwhile", |state| ports(state)[0].1 == 81).await;
    followed.until("all is well", |s| s.watches.iter().all(|w| w.phase.is_read())).await;
}

#[tokio::test]
async fn retry_after_is_kept_to() {
    let server = ApiServer::start(&CORE).unwrap();
    server.fail(SERVICES, Fault::Status(429, 1), 1);
    let began = Instant::now();
    let mut followed = Followed::of(&server).await;
    followed.read().await;
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(server.count("services?"), 2);
}

#[tokio::test]
async fn garbage_on_a_watch_takes_nothing_away_and_no_event_is_lost() {
    let server = ApiServer::start(&CORE).unwrap();
    server.put(SERVICES, service("web", 80));
    let mut followed = Followed::of(&server).await;
    let before = followed.read().await;
    for (port, garbage) in
        [(81, "{\"type\":\"ADDED\",\"object\":{\"meta\n"), (82, "<html>no\n"), (83, "\u{1}\n\n")]
    {
        server.send_raw(SERVICES, garbage);
        server.put(SERVICES, service("web", port));
        let state = followed.until("the event after it", |state| ports(state)[0].1 == i32::from(port)).await;
        assert_eq!(state.objects.len(), before.objects.len());
    }
}

#[tokio::test]
async fn a_list_that_is_cut_off_is_read_again() {
    let server = ApiServer::start(&CORE).unwrap();
    server.stream_lists(false);
    server.put(SERVICES, service("web", 80));
    server.fail(
        "services?&limit",
        Fault::Body("{\"metadata\":{\"resourceVersion\":\"7\"},\"ite".to_owned()),
        2,
    );
    let mut followed = Followed::of(&server).await;
    assert_eq!(ports(&*followed.read().await), [("web".to_owned(), 80)]);
}

#[tokio::test]
async fn an_object_of_a_wrong_shape_keeps_its_last_good_version_and_holds_up_no_other() {
    let server = ApiServer::start(&CORE).unwrap();
    let good = json!({"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}});
    let ingress = |name: &str, spec: &serde_json::Value| json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    server.put(INGRESSES, ingress("a", &good));
    server.put(INGRESSES, ingress("never-good", &json!({"rules": 5})));
    let mut followed = Followed::of(&server).await;
    let state = followed.read().await;
    assert_eq!((state.objects.ingresses.len(), state.problems.len()), (1, 1));
    server.put(INGRESSES, ingress("a", &json!({"rules": "none"})));
    server.put(INGRESSES, ingress("b", &good));
    let state = followed.until("the good one", |state| state.objects.ingresses.len() == 2).await;
    let state = match state.problems.len() {
        2 => state,
        _ => followed.until("both problems", |state| state.problems.len() == 2).await,
    };
    let problem = &state.problems[0];
    assert_eq!(
        (problem.object.to_string(), problem.field.as_str()),
        ("Ingress shop/a".to_owned(), "spec.rules")
    );
    server.put(INGRESSES, ingress("a", &good));
    server.delete(INGRESSES, "shop", "never-good");
    followed.until("both are mended", |state| state.problems.is_empty()).await;
}

#[tokio::test]
async fn a_server_that_ends_every_watch_at_once_is_not_asked_in_a_loop() {
    let server = ApiServer::start(&CORE).unwrap();
    let mut followed = Followed::of(&server).await;
    followed.read().await;
    server.fail("services?&watch=true", Fault::Body(String::new()), usize::MAX);
    let before = server.count("services?");
    server.cut_watches();
    let began = Instant::now();
    asked(&server, "services?", before + 10).await;
    // Waits double from 10 to 100 ms: ten attempts take the sum of at least half of each.
    assert!(began.elapsed() > Duration::from_millis(250), "{:?}", began.elapsed());
    server.heal();
    server.put(SERVICES, service("web", 80));
    followed.until("the change", |state| state.objects.services.len() == 1).await;
}

#[tokio::test]
async fn a_kind_that_may_not_be_read_is_named_with_the_rule_it_needs() {
    let server = ApiServer::start(&CORE).unwrap();
    server.fail(INGRESSES, Fault::Status(403, 0), usize::MAX);
    let mut followed = Followed::of(&server).await;
    let state = followed
        .until("it is told", |state| matches!(phase(state, Kind::Ingress), Phase::Failing { .. }))
        .await;
    let Phase::Failing { failure, was_read: false, .. } = phase(&state, Kind::Ingress) else { panic!() };
    assert_eq!(failure.cause, Cause::Forbidden);
    assert!(failure.fix.contains("watch ingresses.networking.k8s.io"), "{failure:?}");
    assert!(!failure.is_of_server());
}

#[tokio::test]
async fn a_kind_that_is_uninstalled_takes_its_objects_along_and_nothing_else() {
    let server = ApiServer::start(&CORE).unwrap();
    server.serve("/apis/cilium.io/v2/ciliumloadbalancerippools");
    server.put(
        "/apis/cilium.io/v2/ciliumloadbalancerippools",
        json!({
            "metadata": {"name": "p"}, "spec": {"blocks": [{"cidr": "192.0.2.0/28"}]},
        }),
    );
    server.put(SERVICES, service("web", 80));
    let mut followed = Followed::of(&server).await;
    assert_eq!(followed.read().await.objects.lb_pools.len(), 1);
    server.fail("/apis/cilium.io", Fault::Status(404, 0), usize::MAX);
    server.cut_watches();
    let state = followed.until("the pool goes", |state| state.objects.lb_pools.is_empty()).await;
    assert_eq!(phase(&state, Kind::LbPool), Phase::Absent);
    assert_eq!(state.objects.services.len(), 1);
}

#[tokio::test]
async fn an_object_without_a_name_is_told_and_holds_up_no_other() {
    let server = ApiServer::start(&CORE).unwrap();
    let mut followed = Followed::of(&server).await;
    followed.read().await;
    server.send_raw(SERVICES, "{\"type\":\"ADDED\",\"object\":{\"metadata\":{},\"spec\":5}}\n");
    server.send_raw(SERVICES, "{\"type\":\"ADDED\",\"object\":[]}\n");
    server.put(SERVICES, service("web", 80));
    let is_there = |state: &ApiState| state.objects.services.len() == 1 && !state.problems.is_empty();
    let state = followed.until("the good one", is_there).await;
    assert_eq!(state.problems.len(), 1, "{:?}", state.problems);
    assert!(state.problems[0].message.contains("without a name"));
    // A new list without it clears it.
    server.cut_watches();
    server.compact();
    followed.until("it is forgotten", |state| state.problems.is_empty()).await;
}

#[tokio::test]
async fn watches_that_are_let_in_and_then_fail_do_not_wake_each_other_without_end() {
    let server = ApiServer::start(&CORE).unwrap();
    let mut followed = Followed::of(&server).await;
    followed.read().await;
    let error =
        json!({"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcd is away"}});
    server.fail("watch=true", Fault::Body(format!("{error}\n")), usize::MAX);
    server.cut_watches();
    let before = server.count("services?&watch=true");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = server.count("services?&watch=true") - before;
    // It waits 10 ms at first and 100 at most: some fifteen times a second.
    assert!(asked < 25, "{asked} requests for one kind in a second");
    server.heal();
    server.put(SERVICES, service("web", 80));
    followed.until("the change", |state| state.objects.services.len() == 1).await;
}

#[tokio::test]
async fn a_history_that_is_always_too_old_is_told_and_not_read_in_a_loop() {
    let server = ApiServer::start(&CORE).unwrap();
    server.stream_lists(false);
    server.put(SERVICES, service("web", 80));
    let mut followed = Followed::of(&server).await;
    followed.read().await;
    server.fail("services?&watch=true", Fault::Status(410, 0), usize::MAX);
    server.cut_watches();
    let state = followed
        .until("it is told", |state| matches!(phase(state, Kind::Service), Phase::Failing { .. }))
        .await;
    let Phase::Failing { failure, .. } = phase(&state, Kind::Service) else { panic!() };
    assert_eq!(failure.cause, Cause::Expired);
    assert_eq!(state.objects.services.len(), 1);
    server.heal();
    followed.until("it is followed again", |state| phase(state, Kind::Service) == Phase::Live).await;
}

#[tokio::test]
async fn a_kind_that_changes_its_version_keeps_its_objects() {
    let server = ApiServer::start(&CORE).unwrap();
    let pool = json!({"metadata": {"name": "p"}, "spec": {"blocks": [{"cidr": "192.0.2.0/28"}]}});
    let [new, old] =
        ["v2", "v2alpha1"].map(|version| format!("/apis/cilium.io/{version}/ciliumloadbalancerippools"));
    server.serve(&old);
    server.put(&old, pool.clone());
    let mut followed = Followed::of(&server).await;
    assert_eq!(followed.read().await.objects.lb_pools.len(), 1);
    let mut states = followed.state.clone();
    let seen = tokio::spawn(async move {
        let mut fewest = usize::MAX;
        while states.changed().await.is_ok() {
            fewest = fewest.min(states.borrow_and_update().objects.lb_pools.len());
        }
        fewest
    });
    server.serve(&new);
    server.put(&new, pool);
    server.fail(&old, Fault::Status(404, 0), usize::MAX);
    server.cut_watches();
    asked(&server, &new, 1).await;
    server.put(SERVICES, service("later", 80));
    followed.until("a change after it", |state| state.objects.services.len() == 1).await;
    assert_eq!(phase(&followed.state.borrow().clone(), Kind::LbPool), Phase::Live);
    drop(followed);
    assert_eq!(seen.await.unwrap(), 1);
}
