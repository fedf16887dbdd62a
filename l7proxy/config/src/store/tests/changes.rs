//! Listeners that change before everything has come that the change needs, and what they keep.

use std::fmt::Write;
use std::sync::Arc;

use mesh_xds_proto::type_urls;

use super::{listener, named, routes, secret, take, yaml};
use crate::http_manager::RouteSource;
use crate::listener::{FilterChain, Network, Transport};
use crate::{ConfigStore, NamedResource, TlsServer};

/// A listener `web` with a chain for each host: its name, its certificates, its table.
fn chains(chains: &[(&str, &[&str], &str)]) -> NamedResource {
    let mut list = String::new();
    for (host, certificates, table) in chains {
        let certificates: String = certificates
            .iter()
            .map(|name| format!("{{ name: {name}, sds_config: {{ ads: {{}} }} }},"))
            .collect();
        write!(
            list,
            r#"{{ name: "{host}", filter_chain_match: {{ transport_protocol: tls, server_names: ["{host}"] }},
                transport_socket: {{ name: tls, typed_config: {{
                    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext,
                    common_tls_context: {{ tls_certificate_sds_secret_configs: [ {certificates} ] }} }} }},
                filters: [ {{ name: hcm, typed_config: {{
                    "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
                    rds: {{ config_source: {{ ads: {{}} }}, route_config_name: {table} }},
                    http_filters: [ {{ name: router, typed_config: {{
                        "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }} ] }} }} ] }},"#
        )
        .unwrap();
    }
    let text = format!(
        r#"{{ "@type": type.googleapis.com/envoy.config.listener.v3.Listener, name: web,
            address: {{ socket_address: {{ address: "10.0.0.1", port_value: 443 }} }},
            listener_filters: [ {{ name: tls_inspector, typed_config: {{
                "@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector }} }} ],
            filter_chains: [ {list} ] }}"#
    );
    named("web", yaml(&text))
}

fn chain(store: &ConfigStore, host: &str) -> Option<Arc<FilterChain>> {
    store.snapshot().listener("web").unwrap().chain(true, Some(host)).cloned()
}

/// The table that new connections to the host are served by, if there is one and TLS works.
fn served_by(store: &ConfigStore, host: &str) -> Option<String> {
    let chain = chain(store, host)?;
    let Network::Http(manager) = &chain.network else { return None };
    let RouteSource::Named(table) = &manager.routes else { return None };
    let ready = matches!(chain.transport, Transport::Tls(_)) && store.snapshot().routes(table).is_some();
    ready.then(|| table.to_string())
}

fn tls(store: &ConfigStore, host: &str) -> Arc<TlsServer> {
    match &chain(store, host).expect("a chain").transport {
        Transport::Tls(server) => server.clone(),
        other => panic!("{host}: {other:?}"),
    }
}

/// `web` with the certificate `a` and the table `one`.
fn serving() -> ConfigStore {
    let mut store = ConfigStore::new();
    assert_eq!(take(&mut store, type_urls::LISTENER, chains(&[("a.test", &["a"], "one")])), []);
    assert_eq!(take(&mut store, type_urls::SECRET, secret("a", true)), []);
    assert_eq!(take(&mut store, type_urls::ROUTE, routes("one", 200)), []);
    assert_eq!(served_by(&store, "a.test").as_deref(), Some("one"));
    store
}

#[test]
fn listener_that_changes_its_table_keeps_the_old_one_until_the_new_one_has_come() {
    let mut store = serving();
    assert_eq!(take(&mut store, type_urls::LISTENER, chains(&[("a.test", &["a"], "two")])), []);
    store.forget_unwanted();
    assert_eq!(served_by(&store, "a.test").as_deref(), Some("one"));
    let wanted = store.wanted(type_urls::ROUTE);
    assert!(wanted.contains("one") && wanted.contains("two"), "the old one may still change: {wanted:?}");
    // The server knows that the old one is not needed any more, and cannot know that it still is.
    store.apply(type_urls::ROUTE, Vec::new(), &["one".to_owned()]);
    assert_eq!(served_by(&store, "a.test").as_deref(), Some("one"));

    take(&mut store, type_urls::ROUTE, routes("two", 200));
    assert_eq!(served_by(&store, "a.test").as_deref(), Some("two"));
    store.forget_unwanted();
    assert!(store.snapshot().routes("one").is_none());
    assert_eq!(store.wanted(type_urls::ROUTE), ["two".to_owned()].into());
}

#[test]
fn chain_that_gets_another_certificate_keeps_its_old_one_until_that_has_come() {
    let mut store = serving();
    for certificates in [&["a", "b"][..], &["c"]] {
        take(&mut store, type_urls::LISTENER, chains(&[("a.test", certificates, "one")]));
        store.forget_unwanted();
        assert_eq!(served_by(&store, "a.test").as_deref(), Some("one"), "{certificates:?}");
        take(&mut store, type_urls::SECRET, secret(certificates.last().unwrap(), true));
        store.forget_unwanted();
        assert_eq!(served_by(&store, "a.test").as_deref(), Some("one"), "{certificates:?}");
        let held: Vec<String> = store.versions(type_urls::SECRET).into_keys().collect();
        assert_eq!(held, certificates);
    }
}

#[test]
fn change_whose_parts_will_not_come_is_made_all_the_same() {
    // Refused, missing at the server, or just too late.
    let ends: [fn(&mut ConfigStore); 3] = [
        |store| drop(take(store, type_urls::SECRET, secret("b", false))),
        |store| drop(store.apply(type_urls::SECRET, Vec::new(), &["b".to_owned()])),
        |store| {
            assert_eq!(store.outgoing().map(|name| &**name).collect::<Vec<_>>(), ["web"]);
            store.stop_waiting("web");
            assert_eq!(store.outgoing().count(), 0);
        },
    ];
    for end in ends {
        let mut store = serving();
        let changed = chains(&[("a.test", &["a", "b"], "one"), ("b.test", &["b"], "one")]);
        take(&mut store, type_urls::LISTENER, changed);
        assert!(chain(&store, "b.test").is_none() && !store.is_complete());
        end(&mut store);
        assert!(chain(&store, "b.test").is_some());
        assert_eq!(served_by(&store, "b.test"), None, "it has no certificate at all");
        assert_eq!(served_by(&store, "a.test").as_deref(), Some("one"), "one of its certificates is there");
        take(&mut store, type_urls::SECRET, secret("b", true));
        assert_eq!(served_by(&store, "b.test").as_deref(), Some("one"));
        assert!(store.is_complete());
    }
}

#[test]
fn listener_that_moves_or_goes_does_so_at_once() {
    let mut store = serving();
    take(&mut store, type_urls::LISTENER, chains(&[("a.test", &["a"], "two")]));
    take(&mut store, type_urls::LISTENER, listener("web", "10.0.0.9", ""));
    let snapshot = store.snapshot();
    assert!(snapshot.listener_at("10.0.0.1:443".parse().unwrap()).is_none());
    assert!(snapshot.listener_at("10.0.0.9:80".parse().unwrap()).is_some());
    let mut store = serving();
    take(&mut store, type_urls::LISTENER, chains(&[("a.test", &["a"], "two")]));
    store.apply(type_urls::LISTENER, Vec::new(), &["web".to_owned()]);
    assert!(store.snapshot().listener("web").is_none());
    store.forget_unwanted();
    assert!(store.snapshot().routes("one").is_none());
    assert!(store.wanted(type_urls::ROUTE).is_empty());
}

#[test]
fn listener_is_ready_when_nothing_is_on_its_way_for_it() {
    let mut store = ConfigStore::new();
    take(&mut store, type_urls::LISTENER, chains(&[("a.test", &["a"], "one")]));
    take(&mut store, type_urls::LISTENER, listener("other", "10.0.0.2", ""));
    assert!(!store.is_ready("web") && !store.is_ready("other") && store.is_ready("unknown"));
    take(&mut store, type_urls::SECRET, secret("a", true));
    assert!(!store.is_ready("web"));
    // Refused: there is nothing to wait for.
    let refused = NamedResource { name: "one".to_owned(), ..routes("another", 200) };
    assert_eq!(take(&mut store, type_urls::ROUTE, refused).len(), 1);
    assert!(store.is_ready("web") && !store.is_ready("other") && !store.is_complete());
}

#[test]
fn chain_keeps_its_tls_and_tickets_whatever_happens_to_others() {
    let mut store = serving();
    let first = tls(&store, "a.test");
    let changed = chains(&[("b.test", &["b"], "one"), ("a.test", &["a"], "one")]);
    take(&mut store, type_urls::LISTENER, changed);
    take(&mut store, type_urls::SECRET, secret("b", true));
    let second = tls(&store, "b.test");
    assert!(Arc::ptr_eq(&first, &tls(&store, "a.test")), "another host came");
    let renewed = NamedResource { version: "2".to_owned(), ..secret("b", true) };
    take(&mut store, type_urls::SECRET, renewed);
    assert!(Arc::ptr_eq(&first, &tls(&store, "a.test")), "another certificate was renewed");
    assert!(!Arc::ptr_eq(&second, &tls(&store, "b.test")), "the renewed one is used");
    take(&mut store, type_urls::LISTENER, chains(&[("a.test", &["a", "b"], "one")]));
    assert!(!Arc::ptr_eq(&first, &tls(&store, "a.test")), "it has another certificate beside the first");
}

/// Each certificate by itself used to make the TLS of all chains anew: half a million of them here.
#[test]
fn a_thousand_certificates_of_one_listener_are_restored_at_once() {
    const CHAINS: usize = 1000;
    let hosts: Vec<String> = (0..CHAINS).map(|number| format!("host-{number}.test")).collect();
    let names: Vec<[&str; 1]> = hosts.iter().map(|host| [host.as_str()]).collect();
    let all: Vec<(&str, &[&str], &str)> =
        hosts.iter().zip(&names).map(|(host, name)| (host.as_str(), &name[..], "one")).collect();
    let one = secret("host-0.test", true);
    let mut store = ConfigStore::new();
    assert_eq!(take(&mut store, type_urls::LISTENER, chains(&all)), []);
    let secrets = hosts.iter().map(|host| renamed(&one, host)).collect();
    assert_eq!(store.apply(type_urls::SECRET, secrets, &[]), []);
    take(&mut store, type_urls::ROUTE, routes("one", 200));

    let mut successor = ConfigStore::new();
    assert_eq!(successor.import(&store.export()).unwrap(), []);
    assert_eq!(successor.snapshot().revision(), 3, "one step for each type of resource");
    let before: Vec<_> = hosts.iter().map(|host| tls(&successor, host)).collect();
    let renewed = NamedResource { version: "2".to_owned(), ..renamed(&secret("x", true), &hosts[7]) };
    assert_eq!(take(&mut successor, type_urls::SECRET, renewed), []);
    let changed = (0..CHAINS).filter(|at| !Arc::ptr_eq(&before[*at], &tls(&successor, &hosts[*at])));
    assert_eq!(changed.collect::<Vec<_>>(), [7]);
}

/// The same certificate under another name.
fn renamed(resource: &NamedResource, name: &str) -> NamedResource {
    let mut message: mesh_xds_proto::tls::Secret = mesh_xds_proto::decode(&resource.body).unwrap();
    message.name = name.to_owned();
    named(name, mesh_xds_proto::any(&message))
}
