//! What is read when all is well.

use std::sync::Arc;

use mesh_k8s_api::Kind;
use mesh_k8s_reflect::{Config, Phase};
use mesh_model::NamespacedName;
use mesh_testkit::api_server::{ApiServer, Fault};
use serde_json::json;

use crate::fixture::{CORE, Followed, INGRESSES, ROUTES, SECRETS, SERVICES, config, phase, ports, service};

#[tokio::test]
async fn objects_are_followed_as_they_come_change_and_go() {
    let server = ApiServer::start(&CORE).unwrap();
    server.put(SERVICES, service("web", 80));
    server.put(SERVICES, service("other", 90));
    let mut followed = Followed::of(&server).await;
    let first = followed.read().await;
    assert_eq!(ports(&first), [("other".to_owned(), 90), ("web".to_owned(), 80)]);
    server.put(SERVICES, service("web", 81));
    let second = followed.until("a change", |state| ports(state)[1].1 == 81).await;
    let other = NamespacedName::new("shop", "other");
    assert!(Arc::ptr_eq(&first.objects.services[&other], &second.objects.services[&other]));
    server.delete(SERVICES, "shop", "web");
    followed.until("a removal", |state| ports(state).len() == 1).await;
    // All of it came on one watch a kind.
    assert_eq!(server.count("services?"), 1, "{:?}", server.asked());
}

#[tokio::test]
async fn nothing_is_known_until_every_kind_was_read() {
    let server = ApiServer::start(&CORE).unwrap();
    server.put(SERVICES, service("web", 80));
    server.fail(SECRETS, Fault::Status(500, 0), usize::MAX);
    let mut followed = Followed::of(&server).await;
    let state = followed
        .until("all but Secrets are read", |state| {
            phase(state, Kind::Service) == Phase::Live
                && matches!(phase(state, Kind::Secret), Phase::Failing { .. })
        })
        .await;
    assert_eq!((state.revision, state.objects.len()), (0, 0));
    server.heal();
    let state = followed.read().await;
    assert_eq!(state.objects.len(), 1);
}

#[tokio::test]
async fn a_kind_that_is_not_installed_holds_nothing_up_and_is_read_once_it_is() {
    let server = ApiServer::start(&CORE).unwrap();
    let mut followed = Followed::of(&server).await;
    let state = followed.read().await;
    assert_eq!(phase(&state, Kind::HttpRoute), Phase::Absent);
    server.serve(ROUTES);
    server.put(
        ROUTES,
        json!({
            "metadata": {"name": "r", "namespace": "shop"},
            "spec": {"parentRefs": [{"name": "edge"}]},
        }),
    );
    let state = followed.until("the route", |state| state.objects.http_routes.len() == 1).await;
    assert_eq!(phase(&state, Kind::HttpRoute), Phase::Live);
    assert_eq!(phase(&state, Kind::Gateway), Phase::Absent);
}

#[tokio::test]
async fn an_older_version_of_a_kind_is_read_where_the_newer_is_not_served() {
    let server = ApiServer::start(&CORE).unwrap();
    server.serve("/apis/gateway.networking.k8s.io/v1beta1/referencegrants");
    let mut followed = Followed::of(&server).await;
    let state = followed.read().await;
    assert_eq!(phase(&state, Kind::ReferenceGrant), Phase::Live);
}

#[tokio::test]
async fn a_server_that_streams_no_lists_is_read_in_pages() {
    let server = ApiServer::start(&CORE).unwrap();
    server.stream_lists(false);
    for number in 0..1201 {
        server.put(SERVICES, service(&format!("s{number:04}"), 80));
    }
    let mut followed = Followed::of(&server).await;
    let state = followed.read().await;
    assert_eq!(state.objects.services.len(), 1201);
    assert_eq!(server.count("services?&limit=500"), 3, "{:?}", server.asked());
    server.put(SERVICES, service("s0000", 81));
    followed.until("a change after the list", |state| ports(state)[0].1 == 81).await;
}

#[tokio::test]
async fn a_server_that_ignores_the_wish_for_a_streamed_list_is_read_in_pages() {
    let server = ApiServer::start(&CORE).unwrap();
    // Objects come, but never the end of the list.
    let event = json!({"type": "ADDED", "object": service("web", 80)});
    server.fail("services?&watch=true", Fault::Body(format!("{event}\n")), 3);
    server.put(SERVICES, service("web", 80));
    let mut followed = Followed::of(&server).await;
    assert_eq!(ports(&*followed.read().await), [("web".to_owned(), 80)]);
}

#[tokio::test]
async fn secrets_are_read_in_the_allowed_namespaces_and_of_the_type_for_tls_alone() {
    let server = ApiServer::start(&CORE).unwrap();
    for (namespace, name, kind) in [
        ("shop", "tls", "kubernetes.io/tls"),
        ("shop", "token", "Opaque"),
        ("bank", "tls", "kubernetes.io/tls"),
    ] {
        server.put(
            SECRETS,
            json!({
                "metadata": {"name": name, "namespace": namespace},
                "type": kind,
                "data": {"tls.crt": "YQ==", "tls.key": "YQ=="},
            }),
        );
    }
    let config = Config { secret_namespaces: vec!["shop".to_owned()], ..config(&server) };
    let mut followed = Followed::start(config).await;
    let state = followed.read().await;
    let names: Vec<String> = state.objects.secrets.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["shop/tls"]);
    assert_eq!(server.count("GET /api/v1/secrets"), 0);
}

#[tokio::test]
async fn a_status_makes_no_new_revision_unless_it_is_addresses() {
    let server = ApiServer::start(&CORE).unwrap();
    let mut ingress = json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
    });
    server.put(INGRESSES, ingress.clone());
    let mut followed = Followed::start(Config { keep_status: true, ..config(&server) }).await;
    let before = followed.read().await;
    ingress["status"] = json!({"loadBalancer": {"ingress": [{"hostname": "a.example.com"}]}});
    server.put(INGRESSES, ingress.clone());
    let after = followed
        .until("the status", |state| state.statuses.values().any(|status| !status.status.is_null()))
        .await;
    assert_eq!(after.revision, before.revision);
    assert!(Arc::ptr_eq(&before.objects, &after.objects));
    ingress["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    server.put(INGRESSES, ingress);
    let after = followed.until("the address", |state| state.addresses.len() == 1).await;
    assert_eq!(after.revision, before.revision + 1);
}
