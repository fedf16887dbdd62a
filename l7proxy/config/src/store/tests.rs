//! Taking, refusing, keeping and handing on resources.

mod changes;

use std::sync::Arc;

use mesh_xds_proto::{Any, Patch, any, json, type_urls};

use crate::{ConfigStore, NamedResource, Rejected};

fn named(name: &str, body: Any) -> NamedResource {
    NamedResource { name: name.to_owned(), version: "1".to_owned(), body }
}

fn yaml(text: &str) -> Any {
    json::decode_any_yaml(text).unwrap()
}

fn routes(name: &str, status: u16) -> NamedResource {
    let text = format!(
        r#"{{ "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration, name: {name}, virtual_hosts: [
            {{ name: all, domains: ["*"], routes: [ {{ match: {{ prefix: "/" }}, direct_response: {{ status: {status} }} }} ] }} ] }}"#
    );
    named(name, yaml(&text))
}

fn cluster(name: &str, options: &str) -> NamedResource {
    let text = format!(
        r#"{{ "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: {name}, type: EDS, {options}
            eds_cluster_config: {{ eds_config: {{ ads: {{}} }}, service_name: service-{name} }} }}"#
    );
    named(name, yaml(&text))
}

fn endpoints(name: &str, port: u16) -> NamedResource {
    let text = format!(
        r#"{{ "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: {name},
            endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }} ] }} ] }}"#
    );
    named(name, yaml(&text))
}

fn listener(name: &str, address: &str, options: &str) -> NamedResource {
    let text = format!(
        r#"{{ "@type": type.googleapis.com/envoy.config.listener.v3.Listener, name: {name}, {options}
            address: {{ socket_address: {{ address: "{address}", port_value: 80 }} }},
            filter_chains: [ {{
                transport_socket: {{ name: tls, typed_config: {{
                    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext,
                    common_tls_context: {{ tls_certificate_sds_secret_configs: [
                        {{ name: cert-{name}, sds_config: {{ ads: {{}} }} }} ] }} }} }},
                filters: [ {{ name: hcm, typed_config: {{
                    "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
                    rds: {{ config_source: {{ ads: {{}} }}, route_config_name: routes-{name} }},
                    http_filters: [ {{ name: router, typed_config: {{
                        "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }} ] }} }} ] }} ] }}"#
    );
    named(name, yaml(&text))
}

fn secret(name: &str, matching: bool) -> NamedResource {
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let key = if matching { made.signing_key } else { rcgen::KeyPair::generate().unwrap() };
    let value = serde_json::json!({
        "@type": type_urls::SECRET,
        "name": name,
        "tls_certificate": {
            "certificate_chain": { "inline_string": made.cert.pem() },
            "private_key": { "inline_string": key.serialize_pem() },
        },
    });
    named(name, json::decode_any(&value.to_string()).unwrap())
}

fn take(store: &mut ConfigStore, type_url: &str, resource: NamedResource) -> Vec<Rejected> {
    store.apply(type_url, vec![resource], &[])
}

#[test]
fn bad_resource_is_named_and_the_others_are_taken() {
    let mut store = ConfigStore::new();
    assert_eq!(take(&mut store, type_urls::CLUSTER, cluster("b", "connect_timeout: 1s,")), []);
    let rejected = store.apply(
        type_urls::CLUSTER,
        vec![cluster("a", ""), cluster("b", "outlier_detection: { interval: 1s },"), cluster("c", "")],
        &[],
    );
    assert_eq!(rejected.len(), 1);
    assert_eq!((rejected[0].name.as_str(), rejected[0].field.as_str()), ("b", "outlier_detection"));
    let snapshot = store.snapshot();
    assert!(snapshot.cluster("a").is_some() && snapshot.cluster("c").is_some());
    assert_eq!(
        snapshot.cluster("b").unwrap().settings.connect_timeout.as_secs(),
        1,
        "the last good one stays"
    );
    assert!(store.config_dump().to_string().contains("outlier_detection"));
}

#[test]
fn going_back_to_the_version_that_is_held_ends_the_refusal_of_the_other() {
    let mut store = ConfigStore::new();
    take(&mut store, type_urls::CLUSTER, cluster("a", ""));
    let held = store.snapshot();
    let bad =
        NamedResource { version: "2".to_owned(), ..cluster("a", "outlier_detection: { interval: 1s },") };
    assert_eq!(take(&mut store, type_urls::CLUSTER, bad).len(), 1);
    assert!(store.config_dump().to_string().contains("error_state"));
    assert_eq!(take(&mut store, type_urls::CLUSTER, cluster("a", "")), []);
    assert!(!store.config_dump().to_string().contains("error_state"));
    assert!(Arc::ptr_eq(&store.snapshot(), &held), "for traffic nothing has changed");
}

#[test]
fn unknown_type_and_wrong_bytes_are_refused() {
    let mut store = ConfigStore::new();
    assert_eq!(take(&mut store, "type.googleapis.com/some.Thing", routes("a", 200)).len(), 1);
    assert_eq!(take(&mut store, type_urls::CLUSTER, routes("a", 200)).len(), 1);
    let garbage = Any { type_url: type_urls::CLUSTER.to_owned(), value: vec![0xff; 9] };
    assert_eq!(take(&mut store, type_urls::CLUSTER, named("a", garbage)).len(), 1);
    let renamed = NamedResource { name: "b".to_owned(), ..routes("a", 200) };
    assert_eq!(take(&mut store, type_urls::ROUTE, renamed)[0].field, "name");
}

#[test]
fn unchanged_parts_are_shared_between_snapshots() {
    let mut store = ConfigStore::new();
    take(&mut store, type_urls::ROUTE, routes("a", 200));
    take(&mut store, type_urls::ROUTE, routes("b", 200));
    let before = store.snapshot();
    take(&mut store, type_urls::ROUTE, routes("b", 201));
    let after = store.snapshot();
    assert!(Arc::ptr_eq(before.routes("a").unwrap(), after.routes("a").unwrap()));
    assert!(!Arc::ptr_eq(before.routes("b").unwrap(), after.routes("b").unwrap()));
    assert!(after.revision() > before.revision());
    take(&mut store, type_urls::ROUTE, routes("b", 201));
    assert!(Arc::ptr_eq(&store.snapshot(), &after), "the same again changes nothing");
}

#[test]
fn a_patch_is_of_the_version_that_is_held_or_refused() {
    let mut store = ConfigStore::new();
    let versioned =
        |version: &str, resource: NamedResource| NamedResource { version: version.to_owned(), ..resource };
    let patch = |base: &str, version: &str, status: u16| {
        let (old, new) = (routes("a", 200).body, routes("a", status).body);
        versioned(version, named("a", any(&Patch::between(base.to_owned(), &old.value, &new.value))))
    };
    let refused = take(&mut store, type_urls::ROUTE, patch("1", "2", 201));
    assert_eq!(refused[0].reason, r#"a patch of version "1", where "none" is held; send the whole"#);

    assert_eq!(take(&mut store, type_urls::ROUTE, routes("a", 200)), []);
    assert_eq!(take(&mut store, type_urls::ROUTE, patch("1", "2", 201)), []);
    let mut whole = ConfigStore::new();
    take(&mut whole, type_urls::ROUTE, versioned("2", routes("a", 201)));
    assert_eq!(store.export(), whole.export());

    let before = store.snapshot();
    let refused = take(&mut store, type_urls::ROUTE, patch("1", "3", 202));
    assert_eq!(refused[0].reason, r#"a patch of version "1", where "2" is held; send the whole"#);
    // A status that no answer has.
    assert_eq!(
        take(&mut store, type_urls::ROUTE, patch("2", "3", 99))[0].field,
        "virtual_hosts[0].routes[0].direct_response.status"
    );
    let garbage = Any { type_url: Patch::TYPE_URL.to_owned(), value: vec![0xff; 9] };
    assert_eq!(take(&mut store, type_urls::ROUTE, named("a", garbage)).len(), 1);
    assert!(Arc::ptr_eq(&store.snapshot(), &before), "the last good one stays");
    assert_eq!(store.versions(type_urls::ROUTE)["a"], "2");
}

#[test]
fn endpoints_join_their_cluster_in_any_order_and_by_service_name() {
    for endpoints_first in [true, false] {
        let mut store = ConfigStore::new();
        let mut parts =
            [(type_urls::CLUSTER, cluster("a", "")), (type_urls::ENDPOINT, endpoints("service-a", 1))];
        if endpoints_first {
            parts.reverse();
        }
        for (type_url, resource) in parts {
            assert_eq!(take(&mut store, type_url, resource), []);
        }
        assert_eq!(store.snapshot().cluster("a").unwrap().endpoints.all().len(), 1);
        assert_eq!(store.wanted(type_urls::ENDPOINT), ["service-a".to_owned()].into());
        store.apply(type_urls::ENDPOINT, Vec::new(), &["service-a".to_owned()]);
        assert_eq!(store.snapshot().cluster("a").unwrap().endpoints.all().len(), 0);
    }
}

#[test]
fn listeners_name_what_they_want_and_own_their_addresses() {
    let mut store = ConfigStore::new();
    assert_eq!(take(&mut store, type_urls::LISTENER, listener("a", "10.0.0.1", "bind_to_port: false,")), []);
    assert_eq!(store.wanted(type_urls::ROUTE), ["routes-a".to_owned()].into());
    assert_eq!(store.wanted(type_urls::SECRET), ["cert-a".to_owned()].into());
    assert_eq!(store.binds(), []);
    let clash = take(&mut store, type_urls::LISTENER, listener("b", "10.0.0.1", ""));
    assert_eq!(clash[0].field, "address");
    let snapshot = store.snapshot();
    assert_eq!(&*snapshot.listener_at("10.0.0.1:80".parse().unwrap()).unwrap().name, "a");
    assert_eq!(&*snapshot.listener_at("[::ffff:10.0.0.1]:80".parse().unwrap()).unwrap().name, "a");
    assert!(snapshot.listener_at("10.0.0.2:80".parse().unwrap()).is_none());
    assert_eq!(take(&mut store, type_urls::LISTENER, listener("a", "10.0.0.2", "")), []);
    assert!(
        store.snapshot().listener_at("10.0.0.1:80".parse().unwrap()).is_none(),
        "the old address is free"
    );
    assert_eq!(store.binds().len(), 1);
    store.apply(type_urls::LISTENER, Vec::new(), &["a".to_owned()]);
    assert!(store.snapshot().listener("a").is_none());
    assert_eq!(store.binds(), []);
}

#[test]
fn address_without_an_owner_goes_to_the_listener_for_all() {
    let mut store = ConfigStore::new();
    take(&mut store, type_urls::LISTENER, listener("any", "0.0.0.0", "bind_to_port: false,"));
    take(&mut store, type_urls::LISTENER, listener("one", "10.0.0.1", "bind_to_port: false,"));
    let owner = |address: &str| {
        store.snapshot().listener_at(address.parse().unwrap()).map(|listener| listener.name.to_string())
    };
    assert_eq!(owner("10.0.0.1:80").as_deref(), Some("one"));
    assert_eq!(owner("10.0.0.9:80").as_deref(), Some("any"));
    assert_eq!(owner("10.0.0.9:81"), None);
}

#[test]
fn refused_secret_leaves_the_last_good_one() {
    let mut store = ConfigStore::new();
    take(&mut store, type_urls::LISTENER, listener("a", "10.0.0.1", ""));
    let ready = |store: &ConfigStore| {
        let snapshot = store.snapshot();
        let listener = snapshot.listener("a").unwrap();
        matches!(listener.chain(true, None).unwrap().transport, crate::listener::Transport::Tls(_))
    };
    assert!(!ready(&store));
    assert_eq!(take(&mut store, type_urls::SECRET, secret("cert-a", true)), []);
    assert!(ready(&store));
    let rejected = take(&mut store, type_urls::SECRET, secret("cert-a", false));
    assert_eq!(rejected[0].field, "tls_certificate.private_key");
    assert!(ready(&store));
    store.apply(type_urls::SECRET, Vec::new(), &["cert-a".to_owned()]);
    assert!(!ready(&store));
}

#[test]
fn what_nothing_refers_to_any_more_is_forgotten_and_the_rest_stays() {
    let mut store = ConfigStore::new();
    take(&mut store, type_urls::LISTENER, listener("a", "10.0.0.1", ""));
    take(&mut store, type_urls::LISTENER, listener("b", "10.0.0.2", ""));
    take(&mut store, type_urls::CLUSTER, cluster("c", ""));
    for name in ["cert-a", "cert-b"] {
        take(&mut store, type_urls::SECRET, secret(name, true));
    }
    for name in ["routes-a", "routes-b"] {
        take(&mut store, type_urls::ROUTE, routes(name, 200));
    }
    take(&mut store, type_urls::ENDPOINT, endpoints("service-c", 9));
    let (all, before) = (store.export(), store.snapshot());
    store.forget_unwanted();
    assert_eq!(store.export(), all);
    assert!(Arc::ptr_eq(&store.snapshot(), &before), "nothing to forget is no change");

    store.apply(type_urls::LISTENER, Vec::new(), &["b".to_owned()]);
    store.apply(type_urls::CLUSTER, Vec::new(), &["c".to_owned()]);
    take(&mut store, type_urls::SECRET, secret("cert-b", false));
    store.forget_unwanted();
    let held = |type_url| store.versions(type_url).into_keys().collect::<Vec<_>>();
    assert_eq!(held(type_urls::SECRET), ["cert-a"]);
    assert_eq!(held(type_urls::ROUTE), ["routes-a"]);
    assert!(held(type_urls::ENDPOINT).is_empty());
    let snapshot = store.snapshot();
    assert!(snapshot.routes("routes-a").is_some() && snapshot.routes("routes-b").is_none());
    assert!(snapshot.revision() > before.revision());
    assert!(!store.config_dump().to_string().contains("cert-b"), "nor is its refusal kept");

    // The name is no memory either: what comes for it is new.
    take(&mut store, type_urls::LISTENER, listener("b", "10.0.0.2", ""));
    assert!(!store.is_complete());
    take(&mut store, type_urls::ROUTE, routes("routes-b", 200));
    take(&mut store, type_urls::SECRET, secret("cert-b", true));
    assert!(store.is_complete());
}

#[test]
fn keys_are_in_the_export_and_nowhere_else() {
    let mut store = ConfigStore::new();
    take(&mut store, type_urls::LISTENER, listener("a", "10.0.0.1", ""));
    let good = secret("cert-a", true);
    let text = String::from_utf8_lossy(&good.body.value).into_owned();
    let key = text.split("PRIVATE KEY-----").nth(1).unwrap().trim().lines().next().unwrap().to_owned();
    take(&mut store, type_urls::SECRET, good);
    take(&mut store, type_urls::SECRET, secret("cert-a", false));
    let dump = store.config_dump().to_string();
    assert!(dump.contains("[redacted]") && !dump.contains(&key));
    let snapshot = format!("{:?}", store.snapshot());
    assert!(!snapshot.contains(&key) && !snapshot.contains("PRIVATE"));
    assert!(String::from_utf8_lossy(&store.export()).contains(&key));
}

#[test]
fn export_and_import_give_the_same_configuration() {
    let mut store = ConfigStore::new();
    take(&mut store, type_urls::LISTENER, listener("a", "10.0.0.1", ""));
    take(&mut store, type_urls::SECRET, secret("cert-a", true));
    take(&mut store, type_urls::ROUTE, routes("routes-a", 200));
    take(&mut store, type_urls::CLUSTER, cluster("c", ""));
    take(&mut store, type_urls::ENDPOINT, endpoints("service-c", 9));
    let saved = store.export();
    let mut copy = ConfigStore::new();
    assert_eq!(copy.import(&saved).unwrap(), []);
    assert_eq!(copy.export(), saved);
    assert_eq!(copy.config_dump(), store.config_dump());
    assert_eq!(copy.versions(type_urls::CLUSTER), store.versions(type_urls::CLUSTER));
    assert_eq!(copy.snapshot().cluster("c").unwrap().endpoints.all().len(), 1);
    let error = ConfigStore::new().import(&saved[..saved.len() - 1]).unwrap_err();
    assert!(error.offset < saved.len());
    // Not ours at all: refused, and nothing falls over.
    assert!(ConfigStore::new().import(&[0x05, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_store_fall_over(
        value in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..200),
        which in 0..5_usize,
    ) {
        let type_url = type_urls::IN_ORDER[which];
        let mut store = ConfigStore::new();
        let body = Any { type_url: type_url.to_owned(), value: value.clone() };
        take(&mut store, type_url, named("", body));
        let _ = store.config_dump();
        let _ = ConfigStore::new().import(&value);
    }
}
