//! The one trip down, as a pure function: objects to Envoy resources, frontends and conditions.
//!
//! Only the order of the stages is decided here; each stage is a room of its own.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mesh_control_loadbalancer::{AssignConfig, assign};
use mesh_k8s_api::ObjectSet;
use mesh_k8s_ingest::{Ingested, reingest};
use mesh_model::address::AddressAssignments;
use mesh_model::l7::{AttachedRoutes, Fragments};
use mesh_model::{ConditionIntent, Note};
use mesh_xds::lower::{LowerConfig, lower};
use mesh_xds::resolve::{Effective, ResolveConfig, resolve};
use mesh_xds::server::ResourceSet;

use crate::args::{LoadBalancerMode, TranslationOptions};

/// Choices that do not change while the agent runs.
#[derive(Clone, Debug)]
pub(crate) struct DeriveConfig {
    /// Ingress.
    pub(crate) ingress: mesh_ingress::Config,
    /// Gateway API.
    pub(crate) gateway: mesh_gateway_api::Config,
    /// Redirected or plain.
    pub(crate) resolve: ResolveConfig,
    /// Envoy resources.
    pub(crate) lower: LowerConfig,
    /// Addresses told on the command line.
    pub(crate) fixed_addresses: Vec<IpAddr>,
}

impl DeriveConfig {
    /// As the options say, with addresses that every object gets.
    pub(crate) fn new(
        options: &TranslationOptions,
        resolve: ResolveConfig,
        fixed_addresses: Vec<IpAddr>,
    ) -> Self {
        Self {
            ingress: mesh_ingress::Config {
                default_mode: match options.ingress_default_lb_mode {
                    LoadBalancerMode::Dedicated => mesh_ingress::Mode::Dedicated,
                    LoadBalancerMode::Shared => mesh_ingress::Mode::Shared,
                },
                enforce_https: options.enforce_ingress_https,
                ..mesh_ingress::Config::default()
            },
            gateway: mesh_gateway_api::Config::default(),
            resolve,
            lower: LowerConfig::default(),
            fixed_addresses,
        }
    }
}

/// Everything that follows from the objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Derived {
    /// The objects.
    pub(crate) objects: ObjectSet,
    /// Services, their backends, certificates and pools.
    pub(crate) ingested: Ingested,
    /// Listeners, routes and clusters that agree.
    pub(crate) effective: Effective,
    /// For the proxy.
    pub(crate) resources: ResourceSet,
    /// Addresses of Ingresses and Gateways.
    pub(crate) addresses: AddressAssignments,
    /// About the objects.
    pub(crate) conditions: Vec<ConditionIntent>,
    /// Events about the objects.
    pub(crate) notes: Vec<Note>,
    /// Routes of the Gateways' listeners.
    pub(crate) attached: Vec<AttachedRoutes>,
    /// The rows everything was resolved from.
    pub(crate) fragments: Fragments,
}

/// What to derive from.
pub(crate) struct Input<'a> {
    /// The objects.
    pub(crate) objects: &'a ObjectSet,
    /// Addresses of the node.
    pub(crate) own_addresses: &'a [IpAddr],
    /// Addresses that the objects' statuses have: they come before those of the last time.
    pub(crate) written_addresses: &'a AddressAssignments,
}

/// Same input, same output. `last` keeps given addresses in place and saves parsing what did not change.
pub(crate) fn derive(input: &Input<'_>, last: &Derived, config: &DeriveConfig) -> Derived {
    let Input { objects, own_addresses, written_addresses } = *input;
    let ingested = reingest(objects, (&last.objects, &last.ingested));
    let mut conditions = ingested.conditions.clone();
    let mut notes = ingested.notes.clone();

    let ingress_input =
        mesh_ingress::Input { objects, services: &ingested.services, certificates: &ingested.certificates };
    let gateway_input = mesh_gateway_api::Input {
        objects,
        services: &ingested.services,
        certificates: &ingested.certificates,
    };
    let translations = [
        mesh_ingress::translate(&ingress_input, &config.ingress),
        mesh_gateway_api::translate(&gateway_input, &config.gateway),
    ];
    let mut fragments = Fragments::default();
    let mut attached = Vec::new();
    for translation in translations {
        fragments.extend(translation.fragments);
        conditions.extend(translation.conditions);
        notes.extend(translation.notes);
        attached.extend(translation.attached);
    }

    let assign_config =
        AssignConfig { fixed: config.fixed_addresses.clone(), node: one_of_each_family(own_addresses) };
    let mut held = last.addresses.clone();
    held.extend(written_addresses.iter().map(|(object, addresses)| (object.clone(), addresses.clone())));
    let assigned = assign(&fragments.claims, &ingested.pools, &held, &assign_config);
    conditions.extend(assigned.conditions);
    notes.extend(assigned.notes);

    let effective = resolve(&fragments, &assigned.addresses, &ingested.services, &config.resolve);
    conditions.extend(effective.conditions.iter().cloned());
    let resources = lower(&effective, &ingested.backends, &ingested.certificates, &config.lower);

    Derived {
        objects: objects.clone(),
        ingested,
        effective,
        resources,
        addresses: assigned.addresses,
        conditions,
        notes,
        attached,
        fragments,
    }
}

/// The addresses whose connections the proxy takes.
pub(crate) fn proxied_addresses(effective: &Effective) -> BTreeSet<IpAddr> {
    effective.frontends.iter().map(|frontend| frontend.address).collect()
}

/// The node's first address of each family: what an object is served on when nothing else is said.
fn one_of_each_family(own: &[IpAddr]) -> Vec<IpAddr> {
    let first = |v4: bool| own.iter().find(move |address| address.is_ipv4() == v4);
    first(true).into_iter().chain(first(false)).copied().collect()
}
