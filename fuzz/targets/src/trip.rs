//! The trip down, as an agent makes it: objects to Envoy resources. Then what a proxy does with those.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use mesh_control_loadbalancer::{AssignConfig, ThisNode, assign, desired_frontends};
use mesh_k8s_api::ObjectSet;
use mesh_k8s_ingest::ingest;
use mesh_l7proxy_config::{Bind, ConfigStore, NamedResource, Rejected};
use mesh_model::address::AddressAssignments;
use mesh_model::l7::Fragments;
use mesh_xds::lower::{LowerConfig, lower};
use mesh_xds::resolve::{ResolveConfig, resolve};
use mesh_xds::server::ResourceSet;
use mesh_xds_proto::{Any, type_urls};

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
    let frontends =
        desired_frontends(services, &ingested.backends, &effective.frontends, &ThisNode::default());
    assert!(frontends.windows(2).all(|pair| pair[0].key < pair[1].key), "frontends are sorted and unique");
    lower(&effective, &ingested.backends, certificates, &LowerConfig::default())
}

/// The resources of a set that another set has not, or has otherwise.
pub(crate) fn differing<'s>(
    set: &'s ResourceSet,
    known: &ResourceSet,
) -> impl Iterator<Item = (&'s str, &'s str, &'s Any)> {
    let known: BTreeMap<(&str, &str), &Any> =
        known.iter().map(|(type_url, name, body)| ((type_url, name), body)).collect();
    let differing: Vec<_> =
        set.iter().filter(|(type_url, name, body)| known.get(&(*type_url, *name)) != Some(body)).collect();
    differing.into_iter()
}

fn named((_, name, body): (&str, &str, &Any)) -> NamedResource {
    // Equal versions mean equal content, and a store may take them at their word.
    let mut hash = DefaultHasher::new();
    body.value.hash(&mut hash);
    NamedResource { name: name.to_owned(), version: format!("{:016x}", hash.finish()), body: body.clone() }
}

/// Takes a proxy from one set to another as the server does: what differs, then removals.
pub(crate) fn change(store: &mut ConfigStore, from: &ResourceSet, to: &ResourceSet) -> Vec<Rejected> {
    let mut rejected = Vec::new();
    let differing: Vec<_> = differing(to, from).collect();
    for wanted in type_urls::IN_ORDER {
        let upserts = differing.iter().filter(|(type_url, ..)| *type_url == wanted);
        rejected.extend(store.apply(wanted, upserts.copied().map(named).collect(), &[]));
    }
    let kept: BTreeSet<(&str, &str)> = to.iter().map(|(type_url, name, _)| (type_url, name)).collect();
    for wanted in type_urls::IN_ORDER.into_iter().rev() {
        let gone = from.iter().filter(|(url, name, _)| *url == wanted && !kept.contains(&(*url, *name)));
        let gone: Vec<String> = gone.map(|(_, name, _)| name.to_owned()).collect();
        rejected.extend(store.apply(wanted, Vec::new(), &gone));
    }
    rejected
}

/// A proxy that knew nothing.
pub(crate) fn all_at_once(set: &ResourceSet) -> ConfigStore {
    let mut store = ConfigStore::new();
    assert_eq!(change(&mut store, &ResourceSet::default(), set), [], "our proxy refuses what we lower");
    store
}

/// A proxy that was given all resources in an order that no server would choose.
pub(crate) fn all_backwards(set: &ResourceSet) -> ConfigStore {
    let mut store = ConfigStore::new();
    for wanted in type_urls::IN_ORDER.into_iter().rev() {
        let mut resources: Vec<_> = set.iter().filter(|(type_url, ..)| *type_url == wanted).collect();
        resources.reverse();
        for resource in resources {
            assert_eq!(store.apply(wanted, vec![named(resource)], &[]), []);
        }
    }
    store
}

/// What a proxy ended up with, to compare.
#[derive(PartialEq)]
pub(crate) struct Picture {
    listeners: Vec<String>,
    clusters: Vec<String>,
    binds: Vec<Bind>,
    /// By type.
    wanted: Vec<BTreeSet<String>>,
    held: Vec<u8>,
}

pub(crate) fn picture(store: &ConfigStore) -> Picture {
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
    Picture {
        listeners,
        clusters,
        binds: store.binds(),
        wanted: type_urls::IN_ORDER.map(|type_url| store.wanted(type_url)).to_vec(),
        held: store.export(),
    }
}
