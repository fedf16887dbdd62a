use std::sync::Arc;
use std::time::Instant;

use mesh_k8s_api::Kind;
use mesh_k8s_reflect::{ApiState, Phase, Scope, WatchState};

use super::cluster_health;

fn state(phases: Vec<Phase>, revision: u64) -> ApiState {
    let watches = phases
        .into_iter()
        .zip(Kind::ALL)
        .map(|(phase, kind)| WatchState { scope: Scope { kind, namespace: None, node: None }, phase });
    ApiState {
        objects: Arc::default(),
        problems: Arc::default(),
        addresses: Arc::default(),
        statuses: Default::default(),
        watches: Arc::new(watches.collect()),
        server: "https://192.0.2.7/".to_owned(),
        revision,
        read_at: Instant::now(),
    }
}

#[test]
fn a_cluster_is_well_when_every_kind_is_followed_or_not_there() {
    let health = cluster_health(&state(vec![Phase::Live, Phase::Absent], 1));
    assert_eq!((health.name, health.state), ("kubernetes", "ok"));
    let health = cluster_health(&state(vec![Phase::Live, Phase::Reading], 0));
    assert_eq!(health.state, "degraded");
    assert!(health.detail.contains("nodes is not complete yet"), "{}", health.detail);
}
