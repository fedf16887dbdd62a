//! A Gateway: its listeners, the addresses it asks for, and its conditions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_model::address::AddressClaim;
use mesh_model::l7::{AttachedRoutes, Translation};
use mesh_model::{ConditionScope, Note, Origin};

use crate::api;
use crate::conflict;
use crate::context::Context;
use crate::listener::{self, ListenerState};
use crate::report::{Conditions, Refusal, count, join, join_texts};

const ADDRESSES: [&str; 2] = ["lbipam.cilium.io/ips", "io.cilium/lb-ipam-ips"];

/// A Gateway of ours as read.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) origin: Origin,
    /// Controller name of its class.
    pub(crate) controller: &'static str,
    /// In the object's order, with unique names.
    pub(crate) listeners: Vec<ListenerState>,
    refused: Option<Refusal>,
    addresses: Vec<IpAddr>,
    labels: BTreeMap<String, String>,
}

impl Gateway {
    /// Reads a Gateway whose class is ours.
    pub(crate) fn read(
        origin: Origin,
        object: &api::Gateway,
        controller: &'static str,
        context: &Context<'_>,
        notes: &mut Vec<Note>,
    ) -> Self {
        let spec = &object.spec;
        let mut refused = Vec::new();
        let addresses = addresses(spec, &mut refused);
        let mut labels = BTreeMap::new();
        if let Some(infrastructure) = &spec.infrastructure {
            labels.extend(infrastructure.labels.clone().unwrap_or_default());
            if let Some(parameters) = &infrastructure.parameters_ref {
                let message = format!("{} {} is not supported; remove it", parameters.kind, parameters.name);
                refused.push(Refusal::new("spec.infrastructure.parametersRef", "InvalidParameters", message));
            }
        }
        let name = &origin.object.name;
        let service = format!("cilium-gateway-{}", name.name);
        for (key, value) in [
            ("gateway.networking.k8s.io/gateway-name", &name.name),
            ("io.cilium.gateway/owning-gateway", &name.name),
            ("io.kubernetes.service.name", &service),
            ("io.kubernetes.service.namespace", &name.namespace),
        ] {
            labels.insert(key.to_owned(), value.clone());
        }
        note_unsupported(spec, &origin, notes);
        let mut listeners = Vec::new();
        let mut names = BTreeSet::new();
        for (index, given) in spec.listeners.iter().enumerate() {
            let field = format!("spec.listeners[{index}]");
            if names.insert(given.name.as_str()) {
                let validation = client_validation(spec, given.port);
                listeners.push(listener::read(&origin, &field, given, validation.as_deref(), context, notes));
            } else {
                let message = format!(
                    "{:?} is the name of a listener before it, so it is not served; rename it",
                    given.name
                );
                notes.push(Refusal::new(format!("{field}.name"), "ListenersNotValid", message).note(&origin));
            }
        }
        conflict::mark(&mut listeners);
        Self { origin, controller, listeners, refused: refused.into_iter().next(), addresses, labels }
    }

    /// Refuses the Gateway for a reason outside of it, which comes before those within.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.refused = Some(refusal);
    }

    /// True when none of it is served because of the Gateway itself.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Writes rows, conditions and counts; routes must have been counted before.
    pub(crate) fn finish(self, trusted_hops: u32, out: &mut Translation) {
        let served: Vec<_> = if self.is_refused() {
            Vec::new()
        } else {
            self.listeners.iter().filter_map(|listener| listener.row(trusted_hops)).collect()
        };
        self.add_conditions(served.len(), out);
        for listener in &self.listeners {
            add_listener_conditions(&self, listener, out);
            out.attached.push(AttachedRoutes {
                listener: listener.key.clone(),
                count: listener.attached,
                supported_kinds: listener.kinds.clone(),
            });
        }
        // Whatever is served now: a Gateway whose certificate is away for a moment has its address when it is back.
        if self.refused.is_none() {
            out.fragments.claims.push(AddressClaim {
                origin: self.origin,
                requested: self.addresses,
                shared: None,
                labels: self.labels,
            });
        }
        out.fragments.listeners.extend(served);
    }

    fn add_conditions(&self, served: usize, out: &mut Translation) {
        let mut said = Conditions::new(&self.origin, ConditionScope::Object);
        let obstacles = join_texts(self.listeners.iter().filter_map(ListenerState::obstacle).collect());
        if let Some(refusal) = &self.refused {
            said.add("Accepted", false, refusal.reason, refusal.text());
            said.add("Programmed", false, "Invalid", refusal.text());
        } else if self.listeners.is_empty() {
            let message = "spec.listeners: is empty; add a listener";
            said.add("Accepted", false, "ListenersNotValid", message);
            said.add("Programmed", false, "Invalid", message);
        } else if served == self.listeners.len() {
            said.add("Accepted", true, "Accepted", format!("{} served", count(served, "listener")));
        } else {
            let total = count(self.listeners.len(), "listener");
            let message = format!("{served} of {total} served; not served: {obstacles}");
            // Accepted is about the specification; a certificate that is missing is not among its faults.
            let accepted = self.listeners.iter().any(ListenerState::is_accepted);
            said.add("Accepted", accepted, "ListenersNotValid", &message);
            if served == 0 {
                said.add("Programmed", false, "Invalid", message);
            }
        }
        out.conditions.append(&mut said.rows);
    }
}

fn add_listener_conditions(gateway: &Gateway, listener: &ListenerState, out: &mut Translation) {
    let origin = &listener.origin;
    let mut said = Conditions::new(origin, ConditionScope::Listener(listener.key.section.clone()));
    match listener.refused.as_ref().or(listener.conflict.as_ref()) {
        Some(refusal) => said.add("Accepted", false, refusal.reason, refusal.text()),
        None => said.add("Accepted", true, "Accepted", "the listener is valid"),
    }
    match &listener.conflict {
        Some(conflict) => said.add("Conflicted", true, conflict.reason, conflict.text()),
        None => said.add("Conflicted", false, "NoConflicts", "no other listener is in its way"),
    }
    match listener.unresolved.first() {
        Some(first) => said.add("ResolvedRefs", false, first.reason, join(&listener.unresolved)),
        None => said.add("ResolvedRefs", true, "ResolvedRefs", "all references can be used"),
    }
    let obstacle = gateway.refused.as_ref().map(Refusal::text).or_else(|| listener.obstacle());
    if let Some(obstacle) = obstacle {
        said.add("Programmed", false, "Invalid", obstacle);
    }
    out.conditions.append(&mut said.rows);
}

/// Addresses asked for. Cilium's annotation wins over `spec.addresses`, as it does there.
fn addresses(spec: &api::GatewaySpec, refused: &mut Vec<Refusal>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    let annotations =
        spec.infrastructure.as_ref().and_then(|infrastructure| infrastructure.annotations.as_ref());
    let annotated = ADDRESSES.iter().find_map(|key| annotations?.get_key_value(*key));
    if let Some((key, text)) = annotated {
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => refused.push(Refusal::new(
                    format!("spec.infrastructure.annotations[{key}]"),
                    "UnsupportedAddress",
                    format!("{part:?} is not an IP address; write addresses separated by commas"),
                )),
            }
        }
    } else {
        for (index, address) in spec.addresses.iter().flatten().enumerate() {
            let field = format!("spec.addresses[{index}]");
            let kind = address.r#type.as_deref().unwrap_or("IPAddress");
            let value = address.value.as_deref().unwrap_or_default();
            if kind != "IPAddress" {
                let message = format!("addresses of type {kind} are not supported; use IPAddress");
                refused.push(Refusal::new(format!("{field}.type"), "UnsupportedAddress", message));
            } else if !value.is_empty() {
                match value.parse() {
                    Ok(address) => addresses.push(address),
                    Err(_) => {
                        let message =
                            format!("{value:?} is not an IP address; correct it or leave it out for any");
                        refused.push(Refusal::new(format!("{field}.value"), "UnsupportedAddress", message));
                    }
                }
            }
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// The field that asks for client certificates on `port`, if one does.
fn client_validation(spec: &api::GatewaySpec, port: i32) -> Option<String> {
    let frontend = spec.tls.as_ref()?.frontend.as_ref()?;
    let of_port = frontend.per_port.iter().flatten().enumerate().find(|(_, entry)| entry.port == port);
    match of_port {
        Some((index, entry)) => entry
            .tls
            .validation
            .as_ref()
            .map(|_| format!("spec.tls.frontend.perPort[{index}].tls.validation")),
        None => {
            frontend.default.validation.as_ref().map(|_| "spec.tls.frontend.default.validation".to_owned())
        }
    }
}

fn note_unsupported(spec: &api::GatewaySpec, origin: &Origin, notes: &mut Vec<Note>) {
    if spec.tls.as_ref().is_some_and(|tls| tls.backend.is_some()) {
        let message = "TLS to backends is not supported yet, so the certificate is not used; remove it";
        notes.push(Refusal::new("spec.tls.backend", "UnsupportedValue", message).note(origin));
    }
    if spec.default_scope == Some(api::GatewayDefaultScope::All) {
        let message = "default Gateways are not supported yet; name the Gateway in the routes' parentRefs";
        notes.push(Refusal::new("spec.defaultScope", "UnsupportedValue", message).note(origin));
    }
    if spec.allowed_listeners.is_some() {
        let message = "ListenerSets are not supported yet, so none is attached; remove it";
        notes.push(Refusal::new("spec.allowedListeners", "UnsupportedValue", message).note(origin));
    }
}
