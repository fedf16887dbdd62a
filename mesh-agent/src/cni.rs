//! The socket of the CNI plugin: what the runtime asks, and the answers of the specification.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use mesh_cni_wire::{
    Attachment, Code, Command, Failure, Interface, Ip, Received, Request, Route, Success, VERSIONS, answer,
    receive,
};
use mesh_control_endpoint::{Endpoint, GATEWAY_V4, GATEWAY_V6, PodName, PortMapping, PortProtocol};
use mesh_xds::server::{SocketFile, bind};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::events::{EventLog, Happened, Kind};
use crate::pod_network::{PodNetwork, PodRequest};
use crate::view::View;

/// Calls that are answered at a time; others wait in the socket's backlog.
const AT_A_TIME: usize = 16;

/// How long a plugin may take to say what it wants, or to hear the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Binds the socket (0600), in the place of one that a dead agent left, and serves it for as long as the runtime
/// lives. The file goes when what is returned is dropped: a plugin then says at once that there is no agent.
pub(crate) fn serve(socket: &Path, pods: Arc<PodNetwork>, view: Arc<View>) -> anyhow::Result<SocketFile> {
    let (listener, file) = bind(socket, None).context("cannot serve the CNI plugin")?;
    tokio::spawn(accept(listener, pods, view));
    Ok(file)
}

async fn accept(listener: UnixListener, pods: Arc<PodNetwork>, view: Arc<View>) {
    let slots = Arc::new(Semaphore::new(AT_A_TIME));
    loop {
        // Never closed.
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot take a call of the CNI plugin");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (pods, view) = (pods.clone(), view.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = talk(stream, &pods, &view.events) {
                tracing::warn!(%error, "a call of the CNI plugin broke off");
            }
            drop(slot);
        });
    }
}

fn talk(mut stream: UnixStream, pods: &PodNetwork, events: &EventLog) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    let Received { request, descriptors } = receive(&mut stream, PATIENCE)?;
    let outcome = handle(&request, descriptors, pods, events);
    if let Err(failure) = &outcome {
        let subject = subject(&request);
        tracing::warn!(command = ?request.command, subject, "{failure}");
        let message = format!("{:?}: {failure}", request.command);
        events.record(Happened::warning(Kind::EndpointFailed, subject, message).with(json!(failure)));
    }
    answer(&mut stream, &outcome)
}

/// Does what is asked; null where the specification has nothing to answer.
fn handle(
    request: &Request,
    descriptors: Vec<OwnedFd>,
    pods: &PodNetwork,
    events: &EventLog,
) -> Result<Value, Failure> {
    if !VERSIONS.contains(&request.version()) {
        let msg = format!("cniVersion {} is none of {}", request.version(), VERSIONS.join(", "));
        return Err(Failure::new(Code::IncompatibleVersion, msg));
    }
    match request.command {
        Command::Add => {
            let began = Instant::now();
            let [namespace, inside] = inside(descriptors)?;
            let wanted = wanted(request)?;
            let endpoint = pods.add(wanted, &namespace, inside)?;
            let addresses: Vec<String> = endpoint.addresses.iter().map(ToString::to_string).collect();
            let message = format!("endpoint {} with {}", endpoint.id, addresses.join(", "));
            let mut details = json!(endpoint);
            details["milliseconds"] = json!(began.elapsed().as_secs_f64() * 1e3);
            events.record(Happened::normal(Kind::EndpointCreated, subject(request), message).with(details));
            Ok(success(&endpoint).document(request.version()))
        }
        Command::Del => {
            if let Some(endpoint) = pods.remove(&request.attachment())? {
                tell_removed(&endpoint, events);
            }
            Ok(Value::Null)
        }
        Command::Check => {
            let [_, inside] = inside(descriptors)?;
            pods.check(&request.attachment(), inside).map(|()| Value::Null)
        }
        Command::Gc => {
            let (removed, outcome) = pods.collect(&valid_attachments(&request.config)?);
            removed.iter().for_each(|endpoint| tell_removed(endpoint, events));
            outcome.map(|()| Value::Null)
        }
        Command::Status => pods.is_available().map(|()| Value::Null),
    }
}

fn tell_removed(endpoint: &Endpoint, events: &EventLog) {
    let message = format!("endpoint {} is gone", endpoint.id);
    events.record(Happened::normal(Kind::EndpointRemoved, endpoint.shown(), message).with(json!(endpoint)));
}

fn inside(descriptors: Vec<OwnedFd>) -> Result<[OwnedFd; 2], Failure> {
    let msg =
        "the plugin sent no descriptors of the pod's namespace: it is of another version than the agent";
    descriptors.try_into().map_err(|_| Failure::new(Code::InvalidEnvironment, msg))
}

/// What the pod wants, checked: names end up in netlink messages, files and events.
fn wanted(request: &Request) -> Result<PodRequest, Failure> {
    let Request { container_id, interface, netns, .. } = request;
    let is_word =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    // CNI specification 1.1, "Parameters".
    if container_id.is_empty() || container_id.len() > 128 || !is_word(container_id) {
        let msg = format!(
            "CNI_CONTAINERID is `{container_id}`; it has letters, digits, `_`, `.`, `-`, at most 128"
        );
        return Err(Failure::new(Code::InvalidEnvironment, msg));
    }
    let is_name = !interface.contains(['/', ':']) && !interface.contains(char::is_whitespace);
    if interface.is_empty() || interface.len() > 15 || !is_name || [".", ".."].contains(&interface.as_str()) {
        let msg = format!(
            "CNI_IFNAME is `{interface}`; a device's name has 1 to 15 characters, no `/`, `:` or space"
        );
        return Err(Failure::new(Code::InvalidEnvironment, msg));
    }
    let argument = |key| request.argument(key).unwrap_or_default().to_owned();
    let pod = PodName {
        namespace: argument("K8S_POD_NAMESPACE"),
        name: argument("K8S_POD_NAME"),
        uid: argument("K8S_POD_UID"),
    };
    let pod = (!pod.name.is_empty()).then_some(pod);
    let host_ports = host_ports(&request.config)?;
    Ok(PodRequest { attachment: request.attachment(), netns: netns.clone(), pod, host_ports })
}

/// One entry of `runtimeConfig.portMappings`, as the runtime writes it (CNI conventions, "portMappings"). containerd
/// begins the names with capitals, which readers in Go do not see.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    #[serde(alias = "HostPort")]
    host_port: u16,
    #[serde(alias = "ContainerPort")]
    container_port: u16,
    #[serde(default, alias = "Protocol")]
    protocol: String,
    #[serde(default, rename = "hostIP", alias = "HostIP")]
    host_ip: String,
}

/// The ports of the node that are to lead to the pod.
fn host_ports(config: &Value) -> Result<Vec<PortMapping>, Failure> {
    const KEY: &str = "runtimeConfig.portMappings";
    let refused = |why: String| Failure::new(Code::InvalidConfig, format!("millrace: {KEY}: {why}"));
    let Some(list) = config.pointer("/runtimeConfig/portMappings").filter(|list| !list.is_null()) else {
        return Ok(Vec::new());
    };
    let list: Vec<Mapping> =
        serde_json::from_value(list.clone()).map_err(|error| refused(error.to_string()))?;
    let mut ports: Vec<PortMapping> = Vec::with_capacity(list.len());
    // A container's port that is not to be had from the node has 0 here.
    for Mapping { host_port, container_port, protocol, host_ip } in
        list.into_iter().filter(|m| m.host_port != 0)
    {
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => PortProtocol::Tcp,
            "udp" => PortProtocol::Udp,
            _ => {
                let fix = "TCP and UDP are: remove hostPort, or use hostNetwork";
                return Err(refused(format!("{protocol} on port {host_port} is not carried; {fix}")));
            }
        };
        if container_port == 0 {
            return Err(refused(format!("hostPort {host_port} has no containerPort")));
        }
        let host_ip = match host_ip.as_str() {
            "" => None,
            text => {
                let address: IpAddr =
                    text.parse().map_err(|_| refused(format!("hostIP `{text}` is no address")))?;
                (!address.is_unspecified()).then_some(address)
            }
        };
        ports.push(PortMapping { host_ip, host_port, container_port, protocol });
    }
    Ok(ports)
}

/// Those the runtime still knows. A configuration without the list is refused: taken for an empty one, every pod of
/// the node would lose its network.
fn valid_attachments(config: &Value) -> Result<BTreeSet<Attachment>, Failure> {
    const KEY: &str = "cni.dev/valid-attachments";
    let list = config.get(KEY).or_else(|| config.get("cni.dev/attachments"));
    let list = list.ok_or_else(|| Failure::new(Code::InvalidConfig, format!("GC without {KEY}")))?;
    serde_json::from_value(list.clone())
        .map_err(|error| Failure::new(Code::InvalidConfig, format!("{KEY}: {error}")))
}

fn success(endpoint: &Endpoint) -> Success {
    let Endpoint { device, interface, mac, mtu, route_mtu, netns, addresses, .. } = endpoint;
    let outer = Interface {
        name: device.name.clone(),
        mac: device.mac.to_string(),
        mtu: *mtu,
        sandbox: String::new(),
    };
    let inner =
        Interface { name: interface.clone(), mac: mac.to_string(), mtu: *mtu, sandbox: netns.clone() };
    let mut success = Success { interfaces: vec![outer, inner], ..Success::default() };
    for address in addresses {
        let (prefix, gateway, everywhere) = match address.is_ipv4() {
            true => (32, GATEWAY_V4.into(), "0.0.0.0/0"),
            false => (128, GATEWAY_V6.into(), "::/0"),
        };
        success.ips.push(Ip { address: format!("{address}/{prefix}"), gateway, interface: 1 });
        success.routes.push(Route { dst: format!("{gateway}/{prefix}"), gw: None, mtu: None });
        let mtu = (route_mtu < mtu).then_some(*route_mtu);
        success.routes.push(Route { dst: everywhere.to_owned(), gw: Some(gateway), mtu });
    }
    success
}

/// Whom a request is about, for events.
fn subject(request: &Request) -> String {
    match (request.argument("K8S_POD_NAMESPACE"), request.argument("K8S_POD_NAME")) {
        (Some(namespace), Some(name)) => format!("pod {namespace}/{name}"),
        _ if request.container_id.is_empty() => "the node".to_owned(),
        _ => format!("container {}", request.container_id),
    }
}

#[cfg(test)]
mod tests {
    use mesh_cni_wire::{Code, Command, Request};
    use serde_json::{Value, json};

    use super::{host_ports, valid_attachments, wanted};

    fn request(container_id: &str, interface: &str) -> Request {
        Request {
            command: Command::Add,
            container_id: container_id.to_owned(),
            interface: interface.to_owned(),
            netns: "/run/netns/a".to_owned(),
            arguments: "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=7".to_owned(),
            config: Value::Null,
        }
    }

    #[test]
    fn names_that_are_none_are_refused_by_the_variable_they_came_in() {
        let pod = wanted(&request("a1_b.c-d", "eth0")).expect("both are names").pod.expect("it has a name");
        assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()), ("shop", "web", "7"));
        let refused = |container: &str, interface: &str| {
            wanted(&request(container, interface)).err().map(|failure| (failure.code, failure.msg))
        };
        for container in ["", "a/b", "../x", &"a".repeat(129)] {
            let (code, msg) = refused(container, "eth0").expect("it is no name");
            assert!(code == Code::InvalidEnvironment && msg.starts_with("CNI_CONTAINERID"), "{msg}");
        }
        for interface in ["", "a b", "eth0/1", "..", "sixteen_letters_"] {
            let (_, msg) = refused("a", interface).expect("it is no name");
            assert!(msg.starts_with("CNI_IFNAME"), "{msg}");
        }
    }

    #[test]
    fn port_mappings_are_read_and_what_cannot_be_carried_is_named() {
        let of = |list: Value| host_ports(&json!({"runtimeConfig": {"portMappings": list}}));
        let read = of(json!([
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
            {"hostPort": 53, "containerPort": 5353, "protocol": "UDP", "hostIP": "127.0.0.1"},
            {"hostPort": 0, "containerPort": 99, "protocol": "sctp"},
        ]))
        .expect("two ports");
        let shown: Vec<_> =
            read.iter().map(|port| (port.host_ip, port.host_port, port.container_port)).collect();
        assert_eq!(shown, [(None, 8080, 80), (Some([127, 0, 0, 1].into()), 53, 5353)]);
        let containerd =
            json!([{"HostPort": 53, "ContainerPort": 5353, "Protocol": "udp", "HostIP": "127.0.0.1"}]);
        assert_eq!(of(containerd).expect("a port"), read[1..]);
        assert_eq!(host_ports(&json!({})).expect("none"), []);
        assert_eq!(of(Value::Null).expect("none"), []);
        let wrong = [
            (json!([{"hostPort": 9, "containerPort": 9, "protocol": "sctp"}]), "sctp on port 9"),
            (json!([{"hostPort": 9, "containerPort": 0}]), "hostPort 9 has no containerPort"),
            (json!([{"hostPort": 9, "containerPort": 9, "hostIP": "node"}]), "hostIP `node`"),
            (json!([{"hostPort": 70000, "containerPort": 9}]), "70000"),
        ];
        for (list, why) in wrong {
            let failure = of(list).expect_err(why);
            assert!(failure.code == Code::InvalidConfig && failure.msg.contains(why), "{}", failure.msg);
        }
    }

    #[test]
    fn a_collection_without_its_list_collects_nothing() {
        let valid = json!({"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]});
        assert_eq!(valid_attachments(&valid).expect("a list").len(), 1);
        for wrong in [json!({}), json!({"cni.dev/valid-attachments": [{"containerID": "a"}]})] {
            assert_eq!(valid_attachments(&wrong).map_err(|failure| failure.code), Err(Code::InvalidConfig));
        }
    }
}
