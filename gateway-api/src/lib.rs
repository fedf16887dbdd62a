//! Gateway API objects to mesh rows: listeners, routes, address claims, and what to say about them.
//!
//! In come the objects as read, the Services and the certificates ([`Input`]); out goes a [`Translation`].
//! [`translate`] is pure and total: the same input gives the same bytes, and bad input gives conditions with
//! the reasons of the specification, never an error. The crate spawns no tasks and does no I/O.
//!
//! Start reading at [`translate`], then `gateway.rs` and `route.rs`. Served are GatewayClass, Gateway,
//! HTTPRoute and ReferenceGrant of Gateway API 1.5, HTTPRoutes on Services (GAMMA) included. `Programmed` is
//! said here only when it cannot come true; otherwise whoever sees the proxy's acknowledgement says it.

mod backends;
mod class;
mod conflict;
mod context;
mod filters;
mod gateway;
mod grants;
mod headers;
mod listener;
mod matches;
mod namespaces;
mod parents;
mod report;
mod route;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use mesh_k8s_api::{ObjectSet, gateway as api};
use mesh_model::l7::Translation;
use mesh_model::secret::CertificateIndex;
use mesh_model::service::ServiceIndex;

use crate::class::Class;
pub use crate::class::{CILIUM_CONTROLLER, CONTROLLER};
use crate::context::Context;
use crate::gateway::Gateway;
use crate::grants::Grants;
use crate::namespaces::Namespaces;
use crate::report::Refusal;

/// What a translation looks at.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Gateway API objects and Namespaces; others are not looked at.
    pub objects: &'a ObjectSet,
    /// Services that backends and parents are looked up in.
    pub services: &'a ServiceIndex,
    /// Certificates that `certificateRefs` are looked up in.
    pub certificates: &'a CertificateIndex,
}

/// Choices of whoever runs the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Number of trusted proxies in front, for X-Forwarded-For.
    pub trusted_hops: u32,
}

/// Translates all objects that are ours. Costs time linear in the size of the objects, times the number of
/// listeners of a Gateway for each route on it.
pub fn translate(input: &Input<'_>, config: &Config) -> Translation {
    let objects = input.objects;
    let context = context(input);
    let mut out = Translation::default();
    let classes = objects.gateway_classes.values().map(|stored| (stored.origin(), &stored.object));
    let classes = class::read(classes, &mut out.conditions);
    let (mut gateways, foreign) = read_gateways(objects, &classes, &context, &mut out);
    for stored in objects.http_routes.values() {
        route::translate(&stored.origin(), &stored.object, &mut gateways, &foreign, &context, &mut out);
    }
    // After the routes, which are counted at the listeners.
    for (_, gateway) in gateways {
        gateway.finish(config.trusted_hops, &mut out);
    }
    out.fragments.listeners.sort_by(|left, right| left.key.cmp(&right.key));
    out.attached.sort_by(|left, right| left.listener.cmp(&right.listener));
    out.conditions.sort_unstable();
    out.notes.sort_unstable();
    out
}

fn context<'a>(input: &Input<'a>) -> Context<'a> {
    let grants = input.objects.reference_grants.iter();
    let namespaces = input.objects.namespaces.iter();
    Context {
        services: input.services,
        certificates: input.certificates,
        grants: Grants::read(grants.map(|(name, stored)| (name.namespace.as_str(), &stored.object.spec))),
        namespaces: Namespaces {
            labels: namespaces
                .filter_map(|(name, stored)| Some((name.as_str(), stored.object.metadata.labels.as_ref()?)))
                .collect(),
        },
    }
}

/// The Gateways that are ours, and the names of the others.
fn read_gateways(
    objects: &ObjectSet,
    classes: &BTreeMap<String, Class>,
    context: &Context<'_>,
    out: &mut Translation,
) -> (BTreeMap<mesh_model::NamespacedName, Gateway>, BTreeSet<mesh_model::NamespacedName>) {
    let mut ours = BTreeMap::new();
    let mut foreign = BTreeSet::new();
    for (name, stored) in &objects.gateways {
        let origin = stored.origin();
        let class = &stored.object.spec.gateway_class_name;
        match classes.get(class) {
            Some(Class::Accepted { controller }) => {
                let gateway = Gateway::read(origin, &stored.object, controller, context, &mut out.notes);
                ours.insert(name.clone(), gateway);
            }
            Some(Class::Refused { controller, message }) => {
                let mut gateway = Gateway::read(origin, &stored.object, controller, context, &mut out.notes);
                let message = format!("GatewayClass {class} is not accepted ({message})");
                gateway.refuse(Refusal::new("spec.gatewayClassName", "InvalidParameters", message));
                ours.insert(name.clone(), gateway);
            }
            Some(Class::Foreign) => drop(foreign.insert(name.clone())),
            None => {
                let message =
                    format!("GatewayClass {class} does not exist, so nobody serves the Gateway; create it");
                let refusal = Refusal::new("spec.gatewayClassName", "ClassNotFound", message);
                out.notes.push(refusal.note(&origin));
                foreign.insert(name.clone());
            }
        }
    }
    (ours, foreign)
}
