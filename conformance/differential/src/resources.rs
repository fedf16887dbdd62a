//! A case as the resources that both proxies get.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::Context;
use mesh_testkit::certificate::Certificate;
use mesh_xds::server::ResourceSet;
use mesh_xds_proto::{json as envoy_json, type_urls};
use serde_json::{Map, Value, json};

use crate::case::{Case, Chain};

/// Secrets by name. Made once a case, so that both proxies show the same.
pub(crate) type Certificates = BTreeMap<String, Certificate>;

/// New certificates for all secrets of a case.
pub(crate) fn certificates(case: &Case) -> anyhow::Result<Certificates> {
    let make = |(name, hosts): (&String, &Vec<String>)| {
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        Ok((name.clone(), Certificate::for_hosts(&hosts)?))
    };
    case.certificates.iter().map(make).collect()
}

/// The clusters of a case: those it says more about, and two that are always there.
pub(crate) fn cluster_names(case: &Case) -> BTreeSet<&str> {
    let named = case.clusters.keys().chain(case.endpoints.keys()).map(String::as_str);
    ["a", "b"].into_iter().chain(named).collect()
}

/// The backends of a cluster.
pub(crate) fn endpoints_of<'a>(case: &'a Case, cluster: &'a str) -> Vec<&'a str> {
    case.endpoints.get(cluster).map_or(vec![cluster], |names| names.iter().map(String::as_str).collect())
}

/// All resources of a case for a proxy that listens on `port`.
pub(crate) fn build(
    case: &Case,
    port: u16,
    backends: &BTreeMap<String, SocketAddr>,
    certificates: &Certificates,
) -> anyhow::Result<ResourceSet> {
    let mut set = ResourceSet::default();
    let mut insert = |name: &str, resource: Value| -> anyhow::Result<()> {
        let body = envoy_json::decode_any_value(&resource).with_context(|| format!("resource {name}"))?;
        set.insert(name, body);
        Ok(())
    };
    insert("web", listener(case, port))?;
    let virtual_hosts = if case.virtual_hosts.is_empty() {
        json!([{ "name": "all", "domains": ["*"], "routes": case.routes }])
    } else {
        json!(case.virtual_hosts)
    };
    let mut table = json!({ "@type": type_urls::ROUTE, "name": "web", "virtual_hosts": virtual_hosts });
    overlay(&mut table, &case.route_configuration);
    insert("web", table)?;
    for (name, virtual_hosts) in &case.tables {
        insert(name, json!({ "@type": type_urls::ROUTE, "name": name, "virtual_hosts": virtual_hosts }))?;
    }
    for name in cluster_names(case) {
        let mut cluster = json!({
            "@type": type_urls::CLUSTER,
            "name": name,
            "type": "EDS",
            "connect_timeout": "2s",
            "eds_cluster_config": { "eds_config": ads() },
        });
        if let Some(more) = case.clusters.get(name) {
            overlay(&mut cluster, more);
        }
        insert(name, cluster)?;
        let endpoints: Vec<Value> = endpoints_of(case, name)
            .into_iter()
            .map(|backend| {
                let address =
                    backends.get(backend).with_context(|| format!("there is no backend {backend}"))?;
                Ok(json!({ "endpoint": { "address": socket_address(*address) } }))
            })
            .collect::<anyhow::Result<_>>()?;
        let localities =
            if endpoints.is_empty() { json!([]) } else { json!([{ "lb_endpoints": endpoints }]) };
        insert(name, json!({ "@type": type_urls::ENDPOINT, "cluster_name": name, "endpoints": localities }))?;
    }
    for (name, certificate) in certificates {
        let tls = json!({
            "certificate_chain": { "inline_string": certificate.certificate_pem },
            "private_key": { "inline_string": certificate.key_pem },
        });
        insert(name, json!({ "@type": type_urls::SECRET, "name": name, "tls_certificate": tls }))?;
    }
    Ok(set)
}

fn listener(case: &Case, port: u16) -> Value {
    let clear =
        [Chain { matching: Map::new(), certificates: Vec::new(), alpn: Vec::new(), table: "web".to_owned() }];
    let chains = if case.chains.is_empty() { &clear[..] } else { &case.chains };
    let mut listener = json!({
        "@type": type_urls::LISTENER,
        "name": "web",
        "address": socket_address(SocketAddr::from(([127, 0, 0, 1], port))),
        "filter_chains": chains.iter().map(|chain| filter_chain(case, chain)).collect::<Vec<_>>(),
    });
    if chains.iter().any(|chain| !chain.certificates.is_empty()) {
        listener["listener_filters"] = json!([{
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
            },
        }]);
    }
    overlay(&mut listener, &case.listener);
    listener
}

fn filter_chain(case: &Case, chain: &Chain) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
    });
    let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "rds": { "route_config_name": chain.table, "config_source": ads() },
        "http_filters": [router],
    });
    overlay(&mut manager, &case.manager);
    let mut filter_chain = json!({
        "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }],
    });
    if !chain.matching.is_empty() {
        filter_chain["filter_chain_match"] = Value::Object(chain.matching.clone());
    }
    if !chain.certificates.is_empty() {
        let secrets: Vec<Value> =
            chain.certificates.iter().map(|name| json!({ "name": name, "sds_config": ads() })).collect();
        filter_chain["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "tls_certificate_sds_secret_configs": secrets,
                    "alpn_protocols": chain.alpn,
                },
            },
        });
    }
    filter_chain
}

fn ads() -> Value {
    json!({ "ads": {}, "resource_api_version": "V3" })
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// Lays fields over a message: messages are merged, everything else is replaced.
fn overlay(base: &mut Value, over: &Map<String, Value>) {
    for (name, value) in over {
        match (&mut base[name.as_str()], value) {
            (Value::Object(_), Value::Object(fields)) => overlay(&mut base[name.as_str()], fields),
            (slot, value) => *slot = value.clone(),
        }
    }
}
