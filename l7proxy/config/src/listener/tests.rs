//! Refusals, and the choice of a chain.

use mesh_xds_proto::{json, listener};

use super::{Listener, compile};
use crate::check::At;

fn compiled(chains: &str, options: &str) -> Result<Listener, String> {
    let yaml = format!(
        r#"{{ "@type": type.googleapis.com/envoy.config.listener.v3.Listener, name: l, {options}
            address: {{ socket_address: {{ address: 127.0.0.1, port_value: 80 }} }}, filter_chains: [ {chains} ] }}"#
    );
    let message: listener::Listener = mesh_xds_proto::decode(&json::decode_any_yaml(&yaml).unwrap()).unwrap();
    compile(&message, At::ROOT)
        .map(|parts| parts.resolve(&|_| None, None))
        .map_err(|refusal| format!("{}: {}", refusal.field, refusal.reason))
}

fn chain(name: &str, matching: &str) -> String {
    format!(
        r#"{{ name: {name}, filter_chain_match: {{ {matching} }}, filters: [ {{ name: close, typed_config: {{
            "@type": type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config }} }} ] }},"#
    )
}

const INSPECTOR: &str = r#"listener_filters: [ { name: i, typed_config: {
    "@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector } } ],"#;

const NO_VERSION: &str = "listener_filters[0].typed_config.disallowed_versions: ";

fn proxy_protocol(options: &str) -> String {
    format!(
        r#"listener_filters: [ {{ name: p, typed_config: {{
            "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol, {options} }} }} ],"#
    )
}

#[test]
fn versions_of_the_proxy_protocol_are_chosen() {
    for (options, expected) in [
        ("", (true, true, false)),
        ("allow_requests_without_proxy_protocol: true", (true, true, true)),
        ("disallowed_versions: [ V1 ]", (false, true, false)),
    ] {
        let found = compiled(&chain("a", ""), &proxy_protocol(options)).unwrap().proxy_protocol.unwrap();
        assert_eq!((found.v1, found.v2, found.optional), expected, "{options}");
    }
    assert_eq!(compiled(&chain("a", ""), "").unwrap().proxy_protocol, None);
}

fn http(options: &str) -> String {
    format!(
        r#"{{ filters: [ {{ name: hcm, typed_config: {{
            "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
            {options} rds: {{ config_source: {{ ads: {{}} }}, route_config_name: r }} }} }} ] }}"#
    )
}

const ROUTER: &str = r#"http_filters: [ { name: r, typed_config: {
    "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } } ],"#;

#[test]
fn server_name_comes_before_transport_and_the_longest_wins() {
    let chains = [
        chain("exact", "server_names: [ a.example ], transport_protocol: tls"),
        chain("wild", "server_names: [ \"*.example\" ], transport_protocol: tls"),
        chain("longer", "server_names: [ \"*.a.example\" ], transport_protocol: tls"),
        chain("tls", "transport_protocol: tls"),
        chain("plain", "transport_protocol: raw_buffer"),
    ];
    let listener = compiled(&chains.concat(), INSPECTOR).unwrap();
    for (tls, name, expected) in [
        (true, Some("a.example"), "exact"),
        (true, Some("b.example"), "wild"),
        (true, Some("c.b.example"), "wild"),
        (true, Some("b.a.example"), "longer"),
        (true, Some("example"), "tls"),
        (true, None, "tls"),
        (false, None, "plain"),
    ] {
        assert_eq!(&*listener.chain(tls, name).unwrap().name, expected, "{name:?}");
    }
}

#[test]
fn what_is_not_supported_is_refused_with_its_place() {
    let cases = [
        (http(""), "", "filter_chains[0].filters[0].typed_config.http_filters: "),
        (
            http(r#"http_filters: [ { name: w, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors } } ],"#),
            "",
            "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config: ",
        ),
        (
            http(&format!("{ROUTER} tracing: {{}},")),
            "",
            "filter_chains[0].filters[0].typed_config.tracing: ",
        ),
        (
            http(&format!("{ROUTER} upgrade_configs: [ {{ upgrade_type: CONNECT }} ],")),
            "",
            "filter_chains[0].filters[0].typed_config.upgrade_configs[0].upgrade_type: ",
        ),
        (
            r#"{ filters: [ { name: t, typed_config: {
                "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: c } } ] }"#
                .to_owned(),
            "",
            "filter_chains[0].filters[0].typed_config: ",
        ),
        (chain("a", "source_ports: [ 1 ]"), "", "filter_chains[0].filter_chain_match.source_ports: "),
        (chain("a", "transport_protocol: tls"), "", "listener_filters: "),
        (
            chain("a", "transport_protocol: tls") + &chain("b", "transport_protocol: tls"),
            INSPECTOR,
            "filter_chains[1].filter_chain_match: ",
        ),
        (chain("a", ""), "socket_options: [ { level: 1, name: 1, int_value: 1 } ],", "socket_options: "),
        (
            chain("a", ""),
            r#"listener_filters: [ { name: p, typed_config: {
                "@type": type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector } } ],"#,
            "listener_filters[0].typed_config: ",
        ),
        (chain("a", ""), &proxy_protocol("disallowed_versions: [ V1, V2 ]"), NO_VERSION),
        (chain("a", ""), &proxy_protocol("rules: [ { tlv_type: 2 } ]"), "listener_filters[0].typed_config.rules: "),
        (
            chain("a", ""),
            &(INSPECTOR.trim_end_matches("],").to_owned() + ", " + proxy_protocol("").trim_start_matches("listener_filters: [")),
            "listener_filters[1]: ",
        ),
        (String::new(), "", "filter_chains: "),
    ];
    for (chains, options, place) in cases {
        let refused = compiled(&chains, options).unwrap_err();
        assert!(refused.starts_with(place), "{refused}, expected at {place}");
    }
    assert!(compiled(&http(ROUTER), "").is_ok());
}
