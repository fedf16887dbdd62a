//! Services.

use std::net::IpAddr;

use mesh_k8s_api::Stored;
use mesh_k8s_api::core::{Service as Object, ServicePort as ObjectPort};
use mesh_model::service::{
    AppProtocol, ClientAddress, L7Balance, Protocol, Service, ServiceKind, ServicePort, TrafficPolicy,
};
use mesh_model::{Note, Origin};

use crate::note::warning;
use crate::{CLIENT_ADDRESS, L7_ALGORITHM};

/// Reads one Service. Parts that cannot be used are left out, each with a note.
pub(crate) fn read(stored: &Stored<Object>, notes: &mut Vec<Note>) -> Service {
    let origin = stored.origin();
    let spec = stored.object.spec.clone().unwrap_or_default();
    let headless = spec.cluster_ip.as_deref() == Some("None")
        || spec.cluster_ips.iter().flatten().any(|address| address == "None");
    let kind = match spec.type_.as_deref() {
        Some("ExternalName") => ServiceKind::ExternalName(spec.external_name.clone().unwrap_or_default()),
        Some("NodePort") => ServiceKind::NodePort,
        Some("LoadBalancer") => ServiceKind::LoadBalancer,
        _ if headless => ServiceKind::Headless,
        _ => ServiceKind::ClusterIp,
    };
    let has_addresses = !headless && !matches!(kind, ServiceKind::ExternalName(_));
    let mut addresses = Reader { origin: &origin, notes };
    let cluster_ips = match &spec.cluster_ips {
        _ if !has_addresses => Vec::new(),
        Some(list) if !list.is_empty() => addresses.list("spec.clusterIPs", list),
        _ => addresses.list("spec.clusterIP", spec.cluster_ip.as_slice()),
    };
    let mut external_ips =
        addresses.list("spec.externalIPs", spec.external_ips.as_deref().unwrap_or_default());
    let given = stored.object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let given: Vec<String> =
        given.into_iter().flat_map(|l| l.ingress.iter().flatten()).filter_map(|i| i.ip.clone()).collect();
    external_ips.extend(addresses.list("status.loadBalancer.ingress", &given));
    external_ips.sort();
    external_ips.dedup();
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        notes.push(warning(
            origin.at("spec.sessionAffinity"),
            "Unsupported",
            "session affinity is not kept: connections of one client are spread over all backends; remove \
             the field, or write None",
        ));
    }
    let ports = ports(&origin, spec.ports.as_deref().unwrap_or_default(), notes);
    let annotations = stored.object.metadata.annotations.clone().unwrap_or_default();
    let client_address = match annotations.get(CLIENT_ADDRESS).map(String::as_str) {
        None | Some("keep") => ClientAddress::Keep,
        Some("node") => ClientAddress::Node,
        Some(other) => {
            notes.push(bad_annotation(&origin, CLIENT_ADDRESS, other, "keep or node"));
            ClientAddress::default()
        }
    };
    let l7_balance = match annotations.get(L7_ALGORITHM).map(String::as_str) {
        None | Some("round_robin") => L7Balance::RoundRobin,
        Some("least_request") => L7Balance::LeastRequest,
        Some(other) => {
            notes.push(bad_annotation(&origin, L7_ALGORITHM, other, "round_robin or least_request"));
            L7Balance::default()
        }
    };
    let mut policy = |field: &str, text: Option<&str>| match text {
        None | Some("" | "Cluster") => TrafficPolicy::Cluster,
        Some("Local") => TrafficPolicy::Local,
        Some(other) => {
            let message = format!("{other:?} is not understood and Cluster is used; write Cluster or Local");
            notes.push(warning(origin.at(format!("spec.{field}")), "InvalidTrafficPolicy", message));
            TrafficPolicy::Cluster
        }
    };
    let external_traffic = policy("externalTrafficPolicy", spec.external_traffic_policy.as_deref());
    let internal_traffic = policy("internalTrafficPolicy", spec.internal_traffic_policy.as_deref());
    Service {
        name: origin.object.name.clone(),
        kind,
        cluster_ips,
        external_ips,
        ports,
        labels: stored.object.metadata.labels.clone().unwrap_or_default(),
        client_address,
        l7_balance,
        external_traffic,
        internal_traffic,
        origin,
    }
}

/// `TCP`, `UDP`, `SCTP`; nothing means TCP.
pub(crate) fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text {
        None | Some("" | "TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}

/// A port number, zero and everything out of range being none.
pub(crate) fn port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number != 0)
}

struct Reader<'a> {
    origin: &'a Origin,
    notes: &'a mut Vec<Note>,
}

impl Reader<'_> {
    fn list(&mut self, field: &str, texts: &[String]) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for (index, text) in texts.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
            match text.parse() {
                Ok(address) if !addresses.contains(&address) => addresses.push(address),
                Ok(_) => {}
                Err(_) => {
                    let origin = self.origin.at(format!("{field}[{index}]"));
                    let message =
                        format!("{text:?} is no address and is left out; write an IPv4 or IPv6 address");
                    self.notes.push(warning(origin, "InvalidAddress", message));
                }
            }
        }
        addresses
    }
}

fn ports(origin: &Origin, ports: &[ObjectPort], notes: &mut Vec<Note>) -> Vec<ServicePort> {
    let mut read: Vec<ServicePort> = Vec::new();
    for (index, from) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        let (Some(number), Some(protocol)) = (port(from.port), protocol(from.protocol.as_deref())) else {
            let message =
                "the port is left out: it needs a number from 1 to 65535 and protocol TCP, UDP or SCTP";
            notes.push(warning(origin.at(at), "InvalidPort", message));
            continue;
        };
        if read.iter().any(|other| other.port == number && other.protocol == protocol) {
            let message = format!("port {number} is there twice and the second one is left out; remove one");
            notes.push(warning(origin.at(at), "DuplicatePort", message));
            continue;
        }
        read.push(ServicePort {
            name: from.name.clone().unwrap_or_default(),
            port: number,
            protocol,
            app_protocol: app_protocol(origin, &at, from.app_protocol.as_deref(), notes),
            node_port: from.node_port.and_then(port),
        });
    }
    read
}

/// What `appProtocol` says the backends speak. Names that say nothing about HTTP are HTTP/1.1 to the proxy.
fn app_protocol(origin: &Origin, at: &str, text: Option<&str>, notes: &mut Vec<Note>) -> AppProtocol {
    match text {
        Some("kubernetes.io/h2c" | "h2c" | "grpc") => AppProtocol::H2c,
        Some("kubernetes.io/ws" | "ws") => AppProtocol::WebSocket,
        Some(encrypted @ ("https" | "kubernetes.io/wss" | "wss")) => {
            let message = format!(
                "{encrypted:?} asks for TLS to the backends, which the proxy does not speak: routes reach \
                 them in clear text; offer a port without TLS, or let the clients connect without routes"
            );
            notes.push(warning(origin.at(format!("{at}.appProtocol")), "UnsupportedProtocol", message));
            AppProtocol::Http
        }
        _ => AppProtocol::Http,
    }
}

fn bad_annotation(origin: &Origin, name: &str, value: &str, allowed: &str) -> Note {
    warning(
        origin.at(format!("metadata.annotations[{name}]")),
        "InvalidAnnotation",
        format!("{value:?} is not understood and the default is used; write {allowed}"),
    )
}
