//! Derived states for tests: a few manifests, taken the whole way down.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use mesh_model::address::AddressAssignments;
use mesh_xds::lower::LowerConfig;
use mesh_xds::resolve::ResolveConfig;

use crate::derive::{DeriveConfig, Derived, Input, derive};
use crate::health::PartHealth;
use crate::state::State;
use crate::status::Calendar;

/// The quickstart of the examples, where traffic is redirected.
pub(crate) fn quickstart() -> State {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart");
    let folder = mesh_k8s_files::read_once(folder.as_ref());
    assert!(folder.problems.is_empty(), "{:?}", folder.problems);
    let objects = folder.objects;
    let config = DeriveConfig {
        ingress: mesh_ingress::Config::default(),
        gateway: mesh_gateway_api::Config::default(),
        resolve: ResolveConfig::Redirect { thread_ports: vec![(10000, Some(10000))] },
        lower: LowerConfig::default(),
        fixed_addresses: Vec::new(),
    };
    let own: [IpAddr; 1] = [[192, 0, 2, 200].into()];
    let written_addresses = AddressAssignments::default();
    let input = Input { objects: &objects, own_addresses: &own, written_addresses: &written_addresses };
    let derived = derive(&input, &Derived::default(), &config);
    let (conditions, _) = Calendar::default().date(derived.conditions.clone(), Timestamp::UNIX_EPOCH);
    let reading = PartHealth::ok("manifests", "");
    State {
        objects,
        conditions: Arc::new(conditions),
        derived: Arc::new(derived),
        ..State::starting(reading)
    }
}
