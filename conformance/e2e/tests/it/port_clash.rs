//! A pod uses, for itself, the source ports that the proxy would take with the pod's address.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mesh_conformance::BACKEND_PORT;
use mesh_testkit::http::{Connection, Speak};
use mesh_testkit::namespace::Namespace;
use socket2::{Domain, Socket, Type};

use crate::fixture::{at, counted, get, redirecting};

const CATALOG: [&str; 2] = ["10.96.0.20", "fd00:10:96::20"];
/// All that the proxy may take.
const PORTS: [u16; 2] = [25000, 25001];
/// Longer than a SYN and its first repetition.
const NOT_WITHIN: Duration = Duration::from_millis(1500);

/// A connection of a pod's own, past the proxy, from a port of its choice.
fn direct(pod: &Namespace, from: SocketAddr, to: SocketAddr) -> std::io::Result<Socket> {
    let attempt = || {
        let domain = if from.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), NOT_WITHIN)?;
        Ok(socket)
    };
    pod.enter(attempt).expect("a pod can be entered")
}

fn speak(socket: Socket) -> Connection {
    Connection::open(socket.into(), &Speak::Http1).expect("a handshake")
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_pods_own_connections_and_the_proxys_never_share_two_ends() {
    let test = "kernel_a_pods_own_connections_and_the_proxys_never_share_two_ends";
    let range = format!("{}-{}", PORTS[0], PORTS[1]);
    let Some(mut world) = redirecting(test, &["--proxy-threads", "1", "--upstream-ports", &range]) else {
        return;
    };
    world.stack.start_agent().expect("the agent starts");
    world.stack.wait_ready().expect("the product is ready");
    let pod = &world.stack.topology.pods[0];
    let backend = &world.stack.topology.pods[2];
    for ((service, own), backend) in CATALOG.into_iter().zip(pod.addresses()).zip(backend.addresses()) {
        let backend = SocketAddr::new(backend, BACKEND_PORT);
        let from = |port| SocketAddr::new(own, port);
        let ask = || get(&pod.namespace, at(service, 80), "catalog", "/");

        // The pod has both ports: the proxy has none to take, and says so.
        let mut first = speak(direct(&pod.namespace, from(PORTS[0]), backend).expect("nobody has the port"));
        let second = direct(&pod.namespace, from(PORTS[1]), backend).expect("nobody has the port");
        let (answer, refused) = counted(&world.stack, "refused_connect_port_clash", ask);
        assert_eq!(answer.status, 503);
        assert!(refused > 0, "the kernel was asked");
        assert_eq!(first.get("direct", "/").expect("its own connection lives").status, 200);

        // It closes one, with a reset: the proxy takes that.
        second.set_linger(Some(Duration::ZERO)).expect("an option");
        drop(second);
        let seen = ask().json();
        assert_eq!(seen["client"].as_str().map(str::parse::<IpAddr>), Some(Ok(own)), "{seen}");
        assert_eq!(first.get("direct", "/").expect("its own connection lives").status, 200);

        // Now the proxy has it and keeps it for the next request: the pod's attempt waits.
        let again = || direct(&pod.namespace, from(PORTS[1]), backend);
        let (attempt, clashes) = counted(&world.stack, "dropped_tc_port_clash", again);
        assert!(attempt.is_err(), "the ends belong to the proxy");
        assert!(clashes > 0);
        assert_eq!(ask().status, 200);
        assert_eq!(first.get("direct", "/").expect("its own connection lives").status, 200);
    }
}
