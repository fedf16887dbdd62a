//! Choices among endpoints.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mesh_xds_proto::endpoint::ClusterLoadAssignment;
use mesh_xds_proto::{cluster as message, json};

use super::*;
use crate::check::At;

fn settings(balancing: Balancing) -> ClusterSettings {
    let yaml = r#"{ "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: c, type: EDS,
        eds_cluster_config: { eds_config: { ads: {} } } }"#;
    let message: message::Cluster = mesh_xds_proto::decode(&json::decode_any_yaml(yaml).unwrap()).unwrap();
    ClusterSettings { balancing, ..compile(&message, At::ROOT).unwrap().0 }
}

/// Endpoints 127.0.0.1:port, each with more fields in flow style.
fn assigned(list: &[(u16, &str)], previous: Option<&Endpoints>) -> Endpoints {
    let endpoints: String = list
        .iter()
        .map(|(port, options)| {
            format!(
                "{{ {options} endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }},"
            )
        })
        .collect();
    let yaml = format!(
        r#"{{ "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: c,
            endpoints: [ {{ lb_endpoints: [ {endpoints} ] }} ] }}"#
    );
    let message: ClusterLoadAssignment =
        mesh_xds_proto::decode(&json::decode_any_yaml(&yaml).unwrap()).unwrap();
    compile_endpoints(&message, previous, At::ROOT).unwrap()
}

fn picks(settings: ClusterSettings, endpoints: Endpoints, count: usize) -> Vec<u16> {
    let cluster = Cluster { settings: Arc::new(settings), endpoints: Arc::new(endpoints) };
    let turn = Cell::new(0);
    (0..count).filter_map(|_| cluster.pick(&turn, None).map(|endpoint| endpoint.address.port())).collect()
}

fn counts(picks: &[u16]) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for port in picks {
        *counts.entry(*port).or_default() += 1;
    }
    counts
}

#[test]
fn round_robin_takes_turns() {
    let picked = picks(settings(Balancing::RoundRobin), assigned(&[(1, ""), (2, ""), (3, "")], None), 6);
    assert_eq!(picked, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn round_robin_follows_weights_without_bursts() {
    let endpoints = assigned(&[(1, "load_balancing_weight: 30,"), (2, "load_balancing_weight: 10,")], None);
    let picked = picks(settings(Balancing::RoundRobin), endpoints, 8);
    assert_eq!(counts(&picked), BTreeMap::from([(1, 6), (2, 2)]));
    assert_eq!(picked[..4], picked[4..]);
    assert!(!picked.windows(4).any(|four| four.iter().all(|port| *port == 1)), "{picked:?}");
}

#[test]
fn huge_weights_keep_their_proportion() {
    let endpoints =
        assigned(&[(1, "load_balancing_weight: 3000001,"), (2, "load_balancing_weight: 1000000,")], None);
    let counts = counts(&picks(settings(Balancing::RoundRobin), endpoints, 4096));
    assert!((3060..=3080).contains(&counts[&1]), "{counts:?}");
}

#[test]
fn least_request_avoids_the_busy_one() {
    let endpoints = assigned(&[(1, ""), (2, "")], None);
    endpoints.all()[0].active.store(100, Ordering::Relaxed);
    let picked = counts(&picks(settings(Balancing::LeastRequest { choices: 2 }), endpoints, 1000));
    // The busy one is taken only when both draws fall on it, one time in four.
    assert!((100..=400).contains(picked.get(&1).unwrap_or(&0)), "{picked:?}");
}

#[test]
fn unusable_endpoints_are_left_out_and_degraded_ones_are_the_last_resort() {
    let mixed = assigned(
        &[(1, "health_status: UNHEALTHY,"), (2, "health_status: DEGRADED,"), (3, "health_status: HEALTHY,")],
        None,
    );
    assert_eq!(picks(settings(Balancing::RoundRobin), mixed, 2), [3, 3]);
    let worse = assigned(&[(1, "health_status: DRAINING,"), (2, "health_status: DEGRADED,")], None);
    assert_eq!(picks(settings(Balancing::RoundRobin), worse, 2), [2, 2]);
    let none = assigned(&[(1, "health_status: UNHEALTHY,")], None);
    assert_eq!(picks(settings(Balancing::RoundRobin), none, 2), [0_u16; 0]);
    assert_eq!(picks(settings(Balancing::Random), assigned(&[], None), 2), [0_u16; 0]);
}

#[test]
fn panic_threshold_is_only_used_when_asked_for() {
    let endpoints =
        || assigned(&[(1, "health_status: UNHEALTHY,"), (2, ""), (3, "health_status: UNHEALTHY,")], None);
    assert_eq!(picks(settings(Balancing::RoundRobin), endpoints(), 3), [2, 2, 2]);
    let brave = ClusterSettings { panic_percent: 50, ..settings(Balancing::RoundRobin) };
    assert_eq!(picks(brave, endpoints(), 3), [1, 2, 3]);
}

#[test]
fn request_counts_live_on_over_updates() {
    let before = assigned(&[(1, ""), (2, "")], None);
    before.all()[1].active.store(7, Ordering::Relaxed);
    let after = assigned(&[(2, "load_balancing_weight: 5,"), (3, "")], Some(&before));
    assert_eq!(after.all()[0].active.load(Ordering::Relaxed), 7);
    assert_eq!(after.all()[1].active.load(Ordering::Relaxed), 0);
    let same = assigned(&[(1, ""), (2, "")], Some(&before));
    assert!(Arc::ptr_eq(&same.all()[0], &before.all()[0]));
}

#[test]
fn a_kept_source_gets_endpoints_of_its_own_family_where_there_are_any() {
    let yaml = r#"{ "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: c,
        endpoints: [ { lb_endpoints: [
            { endpoint: { address: { socket_address: { address: 10.0.0.1, port_value: 1 } } } },
            { endpoint: { address: { socket_address: { address: 10.0.0.2, port_value: 2 } } } },
            { endpoint: { address: { socket_address: { address: "fd00::1", port_value: 3 } } } } ] } ] }"#;
    let message: ClusterLoadAssignment =
        mesh_xds_proto::decode(&json::decode_any_yaml(yaml).unwrap()).unwrap();
    let both = Arc::new(compile_endpoints(&message, None, At::ROOT).unwrap());
    let cluster = Cluster { settings: Arc::new(settings(Balancing::RoundRobin)), endpoints: both };
    let turn = Cell::new(0);
    let pick = |source: Option<&str>| {
        let source = source.map(|text| text.parse().unwrap());
        (0..3).map(|_| cluster.pick(&turn, source).unwrap().address.port()).collect::<BTreeSet<_>>()
    };
    assert_eq!(pick(Some("10.9.9.9")), BTreeSet::from([1, 2]));
    assert_eq!(pick(Some("fd00::9")), BTreeSet::from([3]));
    assert_eq!(pick(None), BTreeSet::from([1, 2, 3]));

    let only_v4 = Arc::new(assigned(&[(1, "")], None));
    let cluster = Cluster { settings: cluster.settings.clone(), endpoints: only_v4 };
    let picked = cluster.pick(&turn, Some("fd00::9".parse().unwrap())).unwrap();
    assert_eq!(picked.address.port(), 1, "one of the other family is better than none");
}
