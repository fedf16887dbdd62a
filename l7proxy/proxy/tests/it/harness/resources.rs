//! Envoy resources as YAML.

use std::fmt::Write;
use std::net::SocketAddr;

/// An EDS cluster. `options` are more fields in flow style, such as `connect_timeout: 1s, `.
pub(crate) fn cluster(name: &str, options: &str) -> String {
    format!(
        r#"{{ "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: {name}, type: EDS,
            {options}
            eds_cluster_config: {{ eds_config: {{ ads: {{}} }} }} }}"#
    )
}

/// A load assignment with healthy endpoints.
pub(crate) fn endpoints(name: &str, endpoints: &[SocketAddr]) -> String {
    let mut list = String::new();
    for endpoint in endpoints {
        let _ = write!(
            list,
            "{{ endpoint: {{ address: {{ socket_address: {{ address: \"{}\", port_value: {} }} }} }} }},",
            endpoint.ip(),
            endpoint.port()
        );
    }
    format!(
        r#"{{ "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: {name},
            endpoints: [ {{ lb_endpoints: [ {list} ] }} ] }}"#
    )
}

/// Routes for all hosts.
pub(crate) fn routes(name: &str, routes: &str) -> String {
    format!(
        r#"{{ "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration, name: {name},
            virtual_hosts: [ {{ name: all, domains: ["*"], routes: {routes} }} ] }}"#
    )
}

/// A connection manager with routes by name. `options` are more fields in flow style.
fn manager(routes: &str, options: &str) -> String {
    format!(
        r#"{{ name: hcm, typed_config: {{
            "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
            stat_prefix: {routes}, {options}
            rds: {{ config_source: {{ ads: {{}} }}, route_config_name: {routes} }},
            http_filters: [ {{ name: router, typed_config: {{
                "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }} ] }} }}"#
    )
}

/// A plain listener with one chain; its routes have its name.
pub(crate) fn http_listener(name: &str, options: &str) -> String {
    listener(name, "127.0.0.1", 0, "", &[("", "", name, options)])
}

/// A listener at an address, with chains of match, transport socket, routes, and options of the manager.
pub(crate) fn listener(
    name: &str,
    address: &str,
    port: u16,
    options: &str,
    chains: &[(&str, &str, &str, &str)],
) -> String {
    let mut list = String::new();
    for (matching, transport, routes, manager_options) in chains {
        let _ = write!(
            list,
            "{{ filter_chain_match: {{ {matching} }}, {transport} filters: [ {} ] }},",
            manager(routes, manager_options)
        );
    }
    format!(
        r#"{{ "@type": type.googleapis.com/envoy.config.listener.v3.Listener, name: {name},
            address: {{ socket_address: {{ address: "{address}", port_value: {port} }} }}, {options}
            filter_chains: [ {list} ] }}"#
    )
}
