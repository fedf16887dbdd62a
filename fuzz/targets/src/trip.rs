//! The trip down, as an agent makes it: objects to Envoy resources. Then what a proxy does with those.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mesh_control_loadbalancer::{AssignConfig, assign, desired_frontends};
use mesh_k8s_api::ObjectSet;
use mesh_k8s_ingest::ingest;
use mesh_l7proxy_config::{ConfigStore, NamedResource, Rejected};
use mesh_model::address::AddressAssignments;
use mesh_model::l7::Fragments;
use mesh_xds::lower::{LowerConfig, lower};
use mesh_xds::resolve::{ResolveConfig, resolve};
use mesh_xds::server::ResourceSet;
use mesh_xds_proto::type_urls;

/// What the objects come to, with nothing remembered of earlier ones.
pub(crate) fn resources(objects: &ObjectSet, config: &ResolveConfig) -> ResourceSet {
    let ingested = ingest(objects);
    let (services, certificates) = (&ingested.services, &ingested.certificates);
    let ingress = mesh_ingress::Input { objects, services, certificates };
    let gateway = mesh_gateway_api::Input { objects, services, certificates };
    let translations = [
        mesh_ingress::translate(&ingress, &mesh_ingress::Config::default()),
        mesh_gateway_api::translate(&gateway, &mesh_gateway_api::Config::default()),
    ];
    let mut fragments = Fragments::default();
    let mut said = ingested.conditions;
    for translation in translations {
        fragments.extend(translation.fragments);
        said.extend(translation.conditions);
    }
    let node = vec![IpAddr::from([192, 0, 2, 1]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])];
    let assign_config = AssignConfig { fixed: Vec::new(), node };
    let assigned = assign(&fragments.claims, &ingested.pools, &AddressAssignments::default(), &assign_config);
    said.extend(assigned.conditions);
    let effective = resolve(&fragments, &assigned.addresses, services, config);
    said.extend(effective.conditions.iter().cloned());
    for condition in &said {
        assert!(!condition.reason.is_empty(), "{condition:?}");
    }
    let frontends = desired_frontends(services, &ingested.backends, &effective.frontends);
    assert!(frontends.windows(2).all(|pair| pair[0].key < pair[1].key), "frontends are sorted and unique");
    lower(&effective, &ingested.backends, certificates, &LowerConfig::default())
}

/// The resources of one type as a proxy gets them.
fn of_type(set: &ResourceSet, wanted: &str) -> Vec<NamedResource> {
    let resources = set.iter().filter(|(type_url, ..)| *type_url == wanted);
    let named = resources.map(|(_, name, body)| NamedResource {
        name: name.to_owned(),
        // Equal versions mean equal content, and the store takes them at their word.
        version: format!("{}", body.value.len()),
        body: body.clone(),
    });
    named.collect()
}

/// Takes a proxy from one set to another as the server does: additions, then removals.
pub(crate) fn change(store: &mut ConfigStore, from: &ResourceSet, to: &ResourceSet) -> Vec<Rejected> {
    let mut rejected = Vec::new();
    for wanted in type_urls::IN_ORDER {
        rejected.extend(store.apply(wanted, of_type(to, wanted), &[]));
    }
    let kept: BTreeSet<(&str, &str)> = to.iter().map(|(type_url, name, _)| (type_url, name)).collect();
    for wanted in type_urls::IN_ORDER.into_iter().rev() {
        let gone = from.iter().filter(|(url, name, _)| *url == wanted && !kept.contains(&(*url, *name)));
        let gone: Vec<String> = gone.map(|(_, name, _)| name.to_owned()).collect();
        rejected.extend(store.apply(wanted, Vec::new(), &gone));
    }
    rejected
}

/// A proxy that was given all resources in an order that no server would choose.
pub(crate) fn backwards(set: &ResourceSet) -> ConfigStore {
    let mut store = ConfigStore::new();
    for wanted in type_urls::IN_ORDER.into_iter().rev() {
        for resource in of_type(set, wanted).into_iter().rev() {
            assert_eq!(store.apply(wanted, vec![resource], &[]), []);
        }
    }
    store
}

/// What a proxy ended up with, to compare.
pub(crate) fn picture(store: &ConfigStore) -> String {
    let snapshot = store.snapshot();
    let mut listeners: Vec<String> = snapshot
        .listeners()
        .map(|listener| {
            let chains = listener.all_chains().count();
            format!("{} {:?} {chains} {}", listener.name, listener.addresses, listener.use_original_dst)
        })
        .collect();
    listeners.sort();
    let mut clusters: Vec<String> = snapshot
        .clusters()
        .map(|cluster| format!("{} {}", cluster.settings.name, cluster.endpoints.all().len()))
        .collect();
    clusters.sort();
    format!("{listeners:?} {clusters:?} {:?} {}", store.binds(), store.config_dump())
}
