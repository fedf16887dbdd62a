use std::net::IpAddr;

use mesh_control_endpoint::{Device, Endpoint, EndpointState, Mac, PodName};
use mesh_control_identity::Identities;
use mesh_k8s_api::{Facts, Kind, Object, ObjectSet, Source, normalise};
use mesh_k8s_ingest::{PodRanges, nodes};
use mesh_model::Node;
use serde_json::{Value, json};

use super::{Write, addresses, all_identities, plan};

fn set(objects: Vec<(Kind, Value)>) -> ObjectSet {
    let decoded = objects.into_iter().map(|(kind, mut value)| {
        normalise(kind, &mut value);
        let uid = value["metadata"]["uid"].as_str().unwrap_or("u").to_owned();
        let facts = Facts { source: Source::Api, uid, generation: 1 };
        let mut findings = Vec::new();
        let object = Object::decode(kind, value, |_| facts, &mut findings);
        object.unwrap_or_else(|| panic!("{findings:?}"))
    });
    decoded.collect()
}

fn node(name: &str, address: &str) -> (Kind, Value) {
    let addresses = json!([{"type": "InternalIP", "address": address}]);
    (Kind::Node, json!({"metadata": {"name": name}, "status": {"addresses": addresses}}))
}

fn pod(name: &str, uid: &str) -> (Kind, Value) {
    let metadata = json!({"name": name, "namespace": "shop", "uid": uid, "labels": {"app": "web"}});
    let containers = json!([{"name": "c", "image": "i"}]);
    (Kind::Pod, json!({"metadata": metadata, "spec": {"nodeName": "one", "containers": containers}}))
}

fn endpoint(id: u16, pod: &str, uid: &str, address: &str) -> Endpoint {
    Endpoint {
        id,
        container_id: format!("c{id}"),
        interface: "eth0".to_owned(),
        netns: String::new(),
        pod: Some(PodName { namespace: "shop".to_owned(), name: pod.to_owned(), uid: uid.to_owned() }),
        addresses: vec![address.parse::<IpAddr>().expect("an address")],
        device: Device { name: format!("mrp{id}"), index: 7, mac: Mac([2; 6]) },
        mac: Mac([2; 6]),
        mtu: 1500,
        route_mtu: 1500,
        host_ports: Vec::new(),
        state: EndpointState::Ready,
    }
}

fn planned(objects: &ObjectSet, endpoints: &[Endpoint]) -> Vec<Write> {
    let nodes: Vec<Node> = nodes(objects, PodRanges::OfNodes).nodes;
    plan(objects, &all_identities(objects), &nodes, "one", endpoints)
}

#[test]
fn labels_get_a_number_first_and_then_the_pods_that_have_them_their_objects() {
    let mut objects = vec![node("one", "192.0.2.1"), pod("a", "1"), pod("b", "2")];
    let endpoints = [endpoint(1, "a", "1", "10.0.1.1"), endpoint(2, "b", "2", "10.0.1.2")];
    let writes = planned(&set(objects.clone()), &endpoints);
    let [Write::Create(Kind::CiliumIdentity, made)] = writes.as_slice() else { panic!("{writes:?}") };
    assert_eq!(made["security-labels"]["k8s:app"], "web");
    let number: u32 = made["metadata"]["name"].as_str().expect("a name").parse().expect("a number");
    assert!((256..=65535).contains(&number));

    objects.push((Kind::CiliumIdentity, made.clone()));
    let writes = planned(&set(objects.clone()), &endpoints);
    let [Write::Create(Kind::CiliumEndpoint, a), Write::Create(Kind::CiliumEndpoint, b)] = writes.as_slice()
    else {
        panic!("{writes:?}")
    };
    assert_eq!(a["metadata"]["ownerReferences"][0]["uid"], "1");
    assert_eq!(b["status"]["identity"]["id"], number);
    assert_eq!(b["status"]["networking"], json!({"addressing": [{"ipv4": "10.0.1.2"}], "node": "192.0.2.1"}));

    // What is written is right, and others read of it what they need.
    objects.push((Kind::CiliumEndpoint, a.clone()));
    objects.push((Kind::CiliumEndpoint, b.clone()));
    let written = set(objects);
    assert_eq!(planned(&written, &endpoints), []);
    let (name, stored) = written.cilium_endpoints.iter().next().expect("there are two");
    let read = addresses(name, stored);
    assert_eq!((read.name.as_str(), read.identity), ("shop/a", Some(number)));
    assert_eq!(read.node, Some("192.0.2.1".parse().expect("an address")));
}

#[test]
fn what_is_not_here_any_more_goes_and_what_is_on_other_nodes_stays() {
    let on = |name: &str, node: &str| {
        let networking = json!({"node": node, "addressing": [{"ipv4": "10.0.1.9"}]});
        let metadata = json!({"name": name, "namespace": "shop", "uid": format!("uid-{name}")});
        (Kind::CiliumEndpoint, json!({"metadata": metadata, "status": {"networking": networking}}))
    };
    let objects = set(vec![
        node("one", "192.0.2.1"),
        node("two", "192.0.2.2"),
        on("gone", "192.0.2.1"),
        on("elsewhere", "192.0.2.2"),
    ]);
    let writes = planned(&objects, &[]);
    let [Write::Delete(name, uid)] = writes.as_slice() else { panic!("{writes:?}") };
    assert_eq!((name.to_string().as_str(), uid.as_str()), ("shop/gone", "uid-gone"));
}

#[test]
fn a_pod_that_came_after_one_of_its_name_is_not_taken_for_it() {
    let objects = set(vec![node("one", "192.0.2.1"), pod("a", "new")]);
    assert_eq!(planned(&objects, &[endpoint(1, "a", "old", "10.0.1.1")]), []);
    assert_eq!(
        plan(&objects, &Identities::default(), &[], "one", &[]),
        [],
        "a node that is not known says nothing"
    );
}
