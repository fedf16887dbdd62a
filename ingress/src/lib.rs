//! Ingress objects to mesh rows: north-south listeners, routes, address claims, and what to say about them.
//!
//! In come the Kubernetes objects as read, the Services and the certificates ([`Input`]); out goes a
//! [`Translation`]. [`translate`] is pure and total: the same input gives the same bytes, and bad input gives
//! conditions and notes, never an error. The crate spawns no tasks and does no I/O.
//!
//! Start reading at [`translate`], then `object.rs`, which makes the rows of one Ingress. The behaviour
//! follows the Ingress API of Kubernetes and, where that leaves a choice, Cilium.

mod annotations;
mod backend;
mod class;
mod duration;
mod host;
mod object;
mod path;
mod report;
mod tls;

use std::time::Duration;

use mesh_k8s_api::ObjectSet;
use mesh_model::NamespacedName;
use mesh_model::l7::{Fragments, ListenerProtocol, Translation};
use mesh_model::secret::CertificateIndex;
use mesh_model::service::ServiceIndex;

use crate::class::Classes;
use crate::report::Report;

/// Controller name shown with the conditions of Ingress objects.
pub const CONTROLLER: &str = class::CONTROLLER;

/// What a translation looks at.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Ingress and IngressClass objects; others are not looked at.
    pub objects: &'a ObjectSet,
    /// Services that backends are looked up in.
    pub services: &'a ServiceIndex,
    /// Certificates that `spec.tls` is looked up in.
    pub certificates: &'a CertificateIndex,
}

/// Whether an Ingress has addresses of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Its own.
    #[default]
    Dedicated,
    /// In common with all other Ingresses in this mode.
    Shared,
}

/// Choices of whoever runs the agent; annotations of an Ingress win over them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the class that is served whether or not an IngressClass of that name exists.
    pub class_name: String,
    /// Mode of an Ingress that asks for none.
    pub default_mode: Mode,
    /// Whether plain HTTP for a host with TLS is answered with a redirect to HTTPS.
    pub enforce_https: bool,
    /// Secret for `tls` entries without a name.
    pub default_secret: Option<NamespacedName>,
    /// Time-out of whole requests; `None`: none.
    pub request_timeout: Option<Duration>,
    /// Number of trusted proxies in front, for X-Forwarded-For.
    pub trusted_hops: u32,
}

impl Default for Config {
    /// Cilium's defaults: class `cilium`, dedicated, HTTPS enforced, no time-out, no trusted proxy.
    fn default() -> Self {
        Self {
            class_name: "cilium".to_owned(),
            default_mode: Mode::Dedicated,
            enforce_https: true,
            default_secret: None,
            request_timeout: None,
            trusted_hops: 0,
        }
    }
}

/// Translates all Ingress objects that are ours. Costs time linear in the size of the objects.
pub fn translate(input: &Input<'_>, config: &Config) -> Translation {
    let mut out = Translation::default();
    let classes = input.objects.ingress_classes.values().map(|stored| &**stored);
    let classes = Classes::read(&config.class_name, classes, &mut out.notes);
    for stored in input.objects.ingresses.values() {
        let origin = stored.origin();
        let mut report = Report::default();
        if !classes.select(&stored.object, &mut report) {
            out.notes.extend(report.into_notes(&origin));
            continue;
        }
        let fragments = object::translate(&stored.object, &origin, input, config, &mut report);
        let summary = summary(&fragments);
        let (conditions, notes) = report.finish(&origin, summary);
        out.conditions.extend(conditions);
        out.notes.extend(notes);
        out.fragments.extend(fragments);
    }
    out.fragments.listeners.sort_by(|left, right| left.key.cmp(&right.key));
    out.conditions.sort_unstable();
    out.notes.sort_unstable();
    out
}

/// What is served of an Ingress, in a few words; `None` when nothing is.
fn summary(fragments: &Fragments) -> Option<String> {
    let tls = fragments.listeners.iter().filter(|listener| listener.protocol == ListenerProtocol::Https);
    let hosts: Vec<String> = tls.map(|listener| listener.hostname.to_string()).collect();
    match (fragments.listeners.as_slice(), hosts.as_slice()) {
        ([], _) => None,
        (_, []) => Some("served on port 80".to_owned()),
        _ => Some(format!("served on port 80, and on port 443 for {}", hosts.join(", "))),
    }
}
