//! The xDS server of a test, and the resources that it serves.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use mesh_xds::server::{Rejection, ResourceCache, ResourceSet, Server, ServerConfig, ServerHandle};
use mesh_xds_proto::json::decode_any_value;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::harness::PATIENCE;

/// Serves resources on `<run>/xds.sock` until it is dropped.
pub(crate) struct ControlPlane {
    runtime: Runtime,
    cache: ResourceCache,
    handle: ServerHandle,
}

impl ControlPlane {
    pub(crate) fn start(run_dir: &Path) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let cache = ResourceCache::default();
        let server = runtime.block_on(async {
            Server::bind(ServerConfig::new(run_dir.join("xds.sock")), cache.clone()).unwrap()
        });
        let handle = server.handle();
        runtime.spawn(server.run(std::future::pending()));
        Self { runtime, cache, handle }
    }

    /// Serves exactly these resources and waits until the proxy has answered to all of them.
    pub(crate) fn publish(&self, resources: &[Value]) {
        let mut set = ResourceSet::default();
        for resource in resources {
            let name = resource["name"].as_str().or(resource["cluster_name"].as_str()).unwrap().to_owned();
            set.insert(name, decode_any_value(resource).unwrap());
        }
        let revision = self.cache.publish(set).revision;
        let settled = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, self.handle.settled(revision)).await });
        assert!(settled.is_ok(), "the proxy does not answer: {:?}", self.handle.clients());
    }

    pub(crate) fn rejections(&self) -> Vec<Rejection> {
        self.handle.rejections()
    }
}

/// A port that is free now. Somebody else may take it, which no test has met.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Listener, route and cluster of one name: all requests to one address.
pub(crate) fn site(name: &str, listen: SocketAddr, backend: SocketAddr) -> Vec<Value> {
    vec![
        listener(name, listen, json!([{ "filters": [http_manager(name)] }])),
        route(name),
        cluster(name, backend),
    ]
}

pub(crate) fn listener(name: &str, listen: SocketAddr, filter_chains: Value) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": name,
        "address": socket_address(listen),
        "filter_chains": filter_chains,
    })
}

pub(crate) fn http_manager(name: &str) -> Value {
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "rds": { "route_config_name": name, "config_source": { "ads": {}, "resource_api_version": "V3" } },
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
            }],
            "access_log": [{
                "name": "envoy.access_loggers.stdout",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                },
            }],
        },
    })
}

pub(crate) fn route(name: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": name,
        "virtual_hosts": [{
            "name": name,
            "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": name, "timeout": "60s" } }],
        }],
    })
}

pub(crate) fn cluster(name: &str, backend: SocketAddr) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket_address(backend) } }] }],
        },
    })
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
