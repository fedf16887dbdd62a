//! Short ways to write down a mesh.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_model::address::{AddressAssignments, AddressClaim};
use mesh_model::l7::{
    Action, Forward, Fragments, HeaderMatch, HeaderMutation, Listener, ListenerKey, ListenerProtocol,
    ListenerTls, MatchPrecedence, PathMatch, PathRewrite, QueryMatch, Redirect, Route, RouteMatch,
    RouteParent, Rule, Timeouts, ValueMatch, WeightedBackend,
};
use mesh_model::origin::ObjectKey;
use mesh_model::secret::{CertificateIndex, SecretBytes, TlsCertificate};
use mesh_model::service::{
    AppProtocol, Backend, BackendIndex, BackendState, ClientAddress, L7Balance, Protocol, Service,
    ServiceBackends, ServiceIndex, ServiceKind, ServicePort, ServicePortKey,
};
use mesh_model::{NamespacedName, Origin};
use mesh_xds::lower::{LowerConfig, lower};
use mesh_xds::resolve::{Effective, ResolveConfig, resolve};
use mesh_xds::server::ResourceSet;

/// All input of the two stages.
#[derive(Clone, Default)]
pub(crate) struct Mesh {
    pub(crate) fragments: Fragments,
    pub(crate) addresses: AddressAssignments,
    pub(crate) services: ServiceIndex,
    pub(crate) backends: BackendIndex,
    pub(crate) certificates: CertificateIndex,
}

/// Where one object of an Ingress or Gateway is reached.
pub(crate) fn redirect() -> ResolveConfig {
    ResolveConfig::Redirect { thread_ports: vec![(15001, Some(15001)), (15002, Some(15002))] }
}

/// Without redirection.
pub(crate) fn plain() -> ResolveConfig {
    ResolveConfig::Plain {
        http: "127.0.0.1:8080".parse().expect("an address"),
        https: "127.0.0.1:8443".parse().expect("an address"),
    }
}

impl Mesh {
    pub(crate) fn resolve(&self, config: &ResolveConfig) -> Effective {
        resolve(&self.fragments, &self.addresses, &self.services, config)
    }

    pub(crate) fn lower(&self, config: &ResolveConfig) -> ResourceSet {
        self.lower_with(config, &LowerConfig::default())
    }

    pub(crate) fn lower_with(&self, config: &ResolveConfig, choices: &LowerConfig) -> ResourceSet {
        lower(&self.resolve(config), &self.backends, &self.certificates, choices)
    }

    /// Gives an object addresses.
    pub(crate) fn assign(mut self, object: &Origin, addresses: &[&str]) -> Self {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().expect("an address")).collect();
        self.addresses.insert(object.object.clone(), addresses);
        self
    }

    /// Lets an object share the addresses of a group.
    pub(crate) fn share(mut self, object: &Origin, key: &str) -> Self {
        self.fragments.claims.push(AddressClaim {
            origin: object.clone(),
            requested: Vec::new(),
            shared: Some(key.to_owned()),
            labels: BTreeMap::new(),
        });
        self
    }

    pub(crate) fn listener(mut self, object: &Origin, section: &str, port: u16, host: &str) -> Self {
        self.fragments.listeners.push(listener(object, section, port, host));
        self
    }

    pub(crate) fn tls(mut self, object: &Origin, section: &str, port: u16, host: &str, secret: &str) -> Self {
        let mut row = listener(object, section, port, host);
        row.protocol = ListenerProtocol::Https;
        row.tls = Some(ListenerTls { certificates: vec![name(secret)] });
        self.fragments.listeners.push(row);
        self
    }

    pub(crate) fn route(mut self, route: Route) -> Self {
        self.fragments.routes.push(route);
        self
    }

    pub(crate) fn service(self, service: &str, port: u16, cluster_ips: &[&str]) -> Self {
        self.service_with(service, port, cluster_ips, |_| {})
    }

    pub(crate) fn service_with(
        mut self,
        service: &str,
        port: u16,
        cluster_ips: &[&str],
        change: impl FnOnce(&mut Service),
    ) -> Self {
        let mut row = Service {
            name: name(service),
            origin: object("", "Service", service, 0),
            kind: ServiceKind::ClusterIp,
            cluster_ips: cluster_ips.iter().map(|a| a.parse().expect("an address")).collect(),
            external_ips: Vec::new(),
            ports: vec![ServicePort { port, ..Default::default() }],
            labels: BTreeMap::new(),
            client_address: ClientAddress::Keep,
            l7_balance: L7Balance::RoundRobin,
            external_traffic: Default::default(),
            internal_traffic: Default::default(),
        };
        change(&mut row);
        self.services.insert(row.name.clone(), Arc::new(row));
        self
    }

    pub(crate) fn backends(mut self, service: &str, port: u16, backends: &[(&str, BackendState)]) -> Self {
        let mut list: Vec<Backend> = backends
            .iter()
            .map(|(address, state)| {
                let address: std::net::SocketAddr = address.parse().expect("an address");
                Backend { address: address.ip(), port: address.port(), state: *state }
            })
            .collect();
        list.sort();
        let row = ServiceBackends {
            service: name(service),
            ports: BTreeMap::from([((port, Protocol::Tcp), list)]),
        };
        self.backends.insert(row.service.clone(), Arc::new(row));
        self
    }

    pub(crate) fn certificate(mut self, secret: &str) -> Self {
        let certificate = TlsCertificate {
            name: name(secret),
            origin: object("", "Secret", secret, 0),
            chain_pem: SecretBytes::new(format!("chain of {secret}").into_bytes()),
            key_pem: SecretBytes::new(format!("key of {secret}").into_bytes()),
            dns_names: vec!["*.example.com".to_owned()],
            not_after: 0,
        };
        self.certificates.insert(name(secret), Ok(Arc::new(certificate)));
        self
    }

    pub(crate) fn bad_certificate(mut self, secret: &str) -> Self {
        self.certificates.insert(name(secret), Err("the key does not match the certificate".to_owned()));
        self
    }
}

pub(crate) fn h2c(service: &mut Service) {
    service.ports[0].app_protocol = AppProtocol::H2c;
}

pub(crate) fn name(text: &str) -> NamespacedName {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    NamespacedName::new(namespace, name)
}

pub(crate) fn object(group: &str, kind: &str, text: &str, created_ms: i64) -> Origin {
    Origin {
        object: ObjectKey::new(group, kind, name(text)),
        uid: format!("{kind}-{text}"),
        generation: 1,
        created_ms,
        source: format!("{}.yaml", name(text).name),
        field: String::new(),
    }
}

pub(crate) fn gateway(text: &str) -> Origin {
    object("gateway.networking.k8s.io", "Gateway", text, 1)
}

pub(crate) fn http_route(text: &str, created_ms: i64) -> Origin {
    object("gateway.networking.k8s.io", "HTTPRoute", text, created_ms)
}

pub(crate) fn ingress(text: &str, created_ms: i64) -> Origin {
    object("networking.k8s.io", "Ingress", text, created_ms)
}

fn listener(object: &Origin, section: &str, port: u16, host: &str) -> Listener {
    Listener {
        key: ListenerKey { object: object.object.clone(), section: section.to_owned() },
        origin: object.at(format!("spec.listeners[{section}]")),
        port,
        protocol: ListenerProtocol::Http,
        hostname: host.parse().expect("a host"),
        tls: None,
        trusted_hops: 0,
    }
}

/// A listener of an object as a parent.
pub(crate) fn on(object: &Origin, section: &str) -> RouteParent {
    RouteParent::Listener(ListenerKey { object: object.object.clone(), section: section.to_owned() })
}

/// A Service port as a parent.
pub(crate) fn on_service(text: &str, port: u16) -> RouteParent {
    RouteParent::Service(ServicePortKey { service: name(text), port })
}

/// A Gateway API route.
pub(crate) fn route(origin: &Origin, parents: &[RouteParent], hosts: &[&str], rules: Vec<Rule>) -> Route {
    Route {
        origin: origin.clone(),
        parents: parents.to_vec(),
        hostnames: hosts.iter().map(|host| host.parse().expect("a host")).collect(),
        wildcard_one_label: false,
        precedence: MatchPrecedence::GatewayApi,
        rules: rules
            .into_iter()
            .enumerate()
            .map(|(index, rule)| Rule { field: format!("spec.rules[{index}]"), ..rule })
            .collect(),
    }
}

/// An Ingress's route: on listener `http` of the same object, and whatever else is given.
pub(crate) fn ingress_route(origin: &Origin, sections: &[&str], hosts: &[&str], rules: Vec<Rule>) -> Route {
    let parents: Vec<RouteParent> = sections.iter().map(|section| on(origin, section)).collect();
    Route {
        wildcard_one_label: true,
        precedence: MatchPrecedence::Ingress,
        ..route(origin, &parents, hosts, rules)
    }
}

pub(crate) fn rule(matches: Vec<RouteMatch>, action: Action) -> Rule {
    Rule {
        field: String::new(),
        matches,
        request_headers: HeaderMutation::default(),
        response_headers: HeaderMutation::default(),
        action,
        timeouts: Timeouts::default(),
    }
}

pub(crate) fn exact(path: &str) -> RouteMatch {
    RouteMatch { path: PathMatch::Exact(path.to_owned()), ..Default::default() }
}

pub(crate) fn prefix(path: &str) -> RouteMatch {
    RouteMatch { path: PathMatch::Prefix(path.to_owned()), ..Default::default() }
}

pub(crate) fn regex(path: &str) -> RouteMatch {
    RouteMatch { path: PathMatch::Regex(path.to_owned()), ..Default::default() }
}

pub(crate) fn header(name: &str, value: &str) -> HeaderMatch {
    HeaderMatch { name: name.to_owned(), value: ValueMatch::Exact(value.to_owned()) }
}

pub(crate) fn query(name: &str, value: &str) -> QueryMatch {
    QueryMatch { name: name.to_owned(), value: ValueMatch::Exact(value.to_owned()) }
}

pub(crate) fn backend(text: &str, weight: u32) -> WeightedBackend {
    let (service, port) = text.rsplit_once(':').expect("namespace/name:port");
    let key = ServicePortKey { service: name(service), port: port.parse().expect("a port") };
    WeightedBackend { backend: Some(key), ..invalid_backend(weight) }
}

pub(crate) fn invalid_backend(weight: u32) -> WeightedBackend {
    WeightedBackend {
        backend: None,
        weight,
        request_headers: HeaderMutation::default(),
        response_headers: HeaderMutation::default(),
    }
}

pub(crate) fn split(backends: Vec<WeightedBackend>) -> Action {
    Action::Forward(Forward { backends, rewrite: Default::default() })
}

/// All requests to one Service port.
pub(crate) fn to(text: &str) -> Action {
    split(vec![backend(text, 1)])
}

/// To one Service port, with another path.
pub(crate) fn rewrite(text: &str, path: PathRewrite) -> Action {
    let Action::Forward(mut forward) = to(text) else { unreachable!("to() forwards") };
    forward.rewrite.path = Some(path);
    Action::Forward(forward)
}

pub(crate) fn redirect_to(scheme: Option<&str>, port: Option<u16>) -> Redirect {
    Redirect { scheme: scheme.map(str::to_owned), port, status: 301, ..Default::default() }
}
