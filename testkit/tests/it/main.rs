//! The harness itself, without the product.

use std::net::{IpAddr, SocketAddr};

use mesh_testkit::echo::Echo;
use mesh_testkit::http::{Connection, Speak};
use mesh_testkit::namespace;
use mesh_testkit::topology::{CLIENT_V4, CLIENT_V6, Topology};

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_client_reaches_a_pod_and_is_seen_with_its_address() {
    let prefix = format!("mrt-{}", std::process::id());
    let topology = Topology::create(&prefix, 2).expect("root may make namespaces");
    let pod = &topology.pods[1];
    let clients: [IpAddr; 2] = [CLIENT_V4.into(), CLIENT_V6.into()];
    for (address, client) in pod.addresses().into_iter().zip(clients) {
        let listener = pod.namespace.listen(SocketAddr::new(address, 8080)).expect("a listener");
        let echo = Echo::start("pod2", listener).expect("an echo");
        for speak in [Speak::Http1, Speak::Http2] {
            let stream = topology.client.connect(echo.address()).expect("a connection");
            let mut connection = Connection::open(stream, &speak).expect("a handshake");
            let seen = connection.get("pod.test", "/path?q=1").expect("an answer").json();
            assert_eq!(seen["pod"], "pod2");
            assert_eq!(seen["client"], client.to_string());
            assert_eq!(seen["path"], "/path?q=1");
            assert_eq!(seen["host"], "pod.test");
        }
        assert_eq!(echo.requests(), 2);
    }
    drop(topology);
    assert_eq!(namespace::sweep(&prefix).expect("a sweep"), 0, "nothing is left");
}
