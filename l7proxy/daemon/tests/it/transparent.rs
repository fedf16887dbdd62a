use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;

use rustix::thread::{CapabilitySet, capabilities};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::backend::Backend;
use crate::config::{ControlPlane, free_address, site};
use crate::harness::{PATIENCE, Proxy};
use crate::http::Connection;

/// Transparent sockets need a capability, which the starter keeps when it has it.
fn may_be_transparent(test: &str) -> bool {
    let may = capabilities(None).unwrap().effective.contains(CapabilitySet::NET_RAW);
    if !may {
        eprintln!("SKIPPED: {test}: transparent sockets need CAP_NET_RAW");
    }
    may
}

/// As the control plane makes it for two threads.
fn entry_listener() -> Value {
    let ports: Vec<SocketAddr> = (0..2).map(|_| free_address()).collect();
    let on = |ip: &str, port: u16| json!({ "socket_address": { "address": ip, "port_value": port } });
    json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": "redirect",
        "address": on("127.0.0.1", ports[0].port()),
        "additional_addresses": [
            { "address": on("::1", ports[0].port()) },
            { "address": on("127.0.0.1", ports[1].port()) },
            { "address": on("::1", ports[1].port()) },
        ],
        "transparent": true,
        "use_original_dst": true,
        "listener_filters": [{
            "name": "envoy.filters.listener.original_dst",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
            },
        }],
        "filter_chains": [{
            "filters": [{
                "name": "envoy.filters.network.direct_response",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config",
                },
            }],
        }],
    })
}

#[test]
fn entry_listener_has_a_transparent_socket_for_each_thread_and_family() {
    if !may_be_transparent("entry_listener_has_a_transparent_socket_for_each_thread_and_family") {
        return;
    }
    let proxy = Proxy::start();
    let control_plane = ControlPlane::start(&proxy.run_dir());
    control_plane.publish(&[entry_listener()]);
    assert_eq!(control_plane.rejections(), []);
    let listeners = proxy.client().listeners().unwrap();
    assert_eq!(listeners.len(), 4);
    for listener in listeners {
        assert_eq!(listener.info.spec.name, "redirect");
        assert!(listener.info.spec.transparent);
        assert_eq!(listener.sockets.len(), 1);
        let socket = Socket::from(listener.sockets.into_iter().next().unwrap());
        assert!(match listener.info.local.ip() {
            IpAddr::V4(_) => socket.ip_transparent_v4().unwrap(),
            IpAddr::V6(_) => socket.ip_transparent_v6().unwrap(),
        });
    }
}

/// In a network namespace of its own, with an address for a client that is not loopback's.
const IN_NAMESPACE: &str = "MILLRACE_TEST_NAMESPACE";

#[test]
fn client_address_is_kept_where_the_listener_says_so() {
    let name = "client_address_is_kept_where_the_listener_says_so";
    if std::env::var_os(IN_NAMESPACE).is_some() {
        return keep_client_address();
    }
    if !may_be_transparent(name) {
        return;
    }
    let script = "ip link set lo up && ip address add 192.0.2.9/32 dev lo && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--net", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([&format!("transparent::{name}"), "--exact", "--nocapture"])
        .env(IN_NAMESPACE, "1")
        .output();
    match output {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("1 passed") => {}
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("unshare failed") => {
            eprintln!("SKIPPED: {name}: no network namespace can be made here");
        }
        Ok(output) => panic!("{output:?}"),
        Err(error) => eprintln!("SKIPPED: {name}: unshare: {error}"),
    }
}

fn keep_client_address() {
    let proxy = Proxy::start_with(&["--upstream-ports", "23300-23399"]);
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let (backend, kept, own) = (Backend::start("peers"), free_address(), free_address());
    let mut resources = site("kept", kept, backend.address);
    resources[0]["listener_filters"] = json!([{
        "name": "envoy.filters.listener.original_src",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.original_src.v3.OriginalSrc",
            "bind_port": false,
            "mark": 0x0900,
        },
    }]);
    resources.extend(site("own", own, backend.address));
    control_plane.publish(&resources);
    assert_eq!(control_plane.rejections(), []);

    let peer_seen = |listen: SocketAddr| -> SocketAddr {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.bind(&"192.0.2.9:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        client.connect(&listen.into()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        Connection::over(TcpStream::from(client)).get("/peer").unwrap().body.parse().unwrap()
    };
    let seen = peer_seen(kept);
    assert_eq!(seen.ip().to_string(), "192.0.2.9");
    assert!((23300..=23399).contains(&seen.port()), "{seen}");
    assert_eq!(peer_seen(own).ip().to_string(), "127.0.0.1");
}
