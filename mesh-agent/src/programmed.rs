//! Pure: whether what an object asked for is in the proxy.

use std::collections::{BTreeMap, BTreeSet};

use mesh_model::l7::{Listener, ListenerKey};
use mesh_model::{ConditionIntent, ConditionScope, ConditionStatus, ObjectKey, Origin};
use mesh_xds::resolve::EffectiveListener;
use mesh_xds::server::ClientStatus;
use mesh_xds_proto::type_urls;

use crate::derive::Derived;

/// What the proxy says of listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProxyListeners {
    /// Whether a proxy has said anything to this agent yet.
    pub(crate) heard: bool,
    /// Names it serves.
    pub(crate) accepted: BTreeSet<String>,
    /// Names it refused, with the reason.
    pub(crate) refused: BTreeMap<String, String>,
}

impl ProxyListeners {
    /// What all connected proxies serve and refuse, once they have answered everything of a revision. `None`: the
    /// last word stands, for what they have may be on its way out. The same without a proxy: its sockets are still
    /// open and connections wait in them.
    pub(crate) fn said_by(clients: &[ClientStatus], revision: u64) -> Option<Self> {
        if clients.iter().any(|client| client.settled < revision) {
            return None;
        }
        let mut accepted: Option<BTreeSet<String>> = None;
        let mut refused = BTreeMap::new();
        for client in clients {
            let Some(listeners) = client.types.get(type_urls::LISTENER) else { continue };
            let names: BTreeSet<String> = listeners.acked.keys().cloned().collect();
            // While one proxy hands over to another, only what both serve is safe.
            accepted = Some(match accepted {
                Some(others) => others.intersection(&names).cloned().collect(),
                None => names,
            });
            let reasons = listeners.rejected.iter().map(|(name, nack)| (name.clone(), nack.message.clone()));
            refused.extend(reasons);
        }
        Some(Self { heard: true, accepted: accepted?, refused })
    }
}

/// `Programmed` of every Gateway and its listeners, and `millrace.io/Programmed` of every Ingress, that did
/// not get one while it was translated.
pub(crate) fn conditions(derived: &Derived, proxy: &ProxyListeners) -> Vec<ConditionIntent> {
    let told: BTreeSet<(&ObjectKey, &ConditionScope)> = derived
        .conditions
        .iter()
        .filter(|condition| condition.kind == "Programmed")
        .map(|condition| (&condition.origin.object, &condition.scope))
        .collect();
    let mut by_object: BTreeMap<&ObjectKey, Vec<&Listener>> = BTreeMap::new();
    for listener in &derived.fragments.listeners {
        by_object.entry(&listener.key.object).or_default().push(listener);
    }
    let mut serving: BTreeMap<&ListenerKey, Vec<&EffectiveListener>> = BTreeMap::new();
    for listener in &derived.effective.listeners {
        for row in &listener.rows {
            serving.entry(row).or_default().push(listener);
        }
    }
    let mut conditions = Vec::new();
    for claim in &derived.fragments.claims {
        let object = &claim.origin.object;
        let rows = by_object.get(object).map_or(&[][..], Vec::as_slice);
        let mut whole = Verdict::Programmed;
        for row in rows {
            let serving = serving.get(&row.key).map_or(&[][..], Vec::as_slice);
            let verdict = of_listener(derived, row, serving, proxy);
            let scope = ConditionScope::Listener(row.key.section.clone());
            if object.kind == "Gateway" && !told.contains(&(object, &scope)) {
                conditions.push(verdict.condition(row.origin.clone(), scope, "Programmed"));
            }
            whole = whole.and(verdict);
        }
        if rows.is_empty() {
            whole = Verdict::Pending("Invalid", "it has no listener that can be served".to_owned());
        }
        if told.contains(&(object, &ConditionScope::Object)) {
            continue;
        }
        let kind = if object.kind == "Gateway" { "Programmed" } else { "millrace.io/Programmed" };
        conditions.push(whole.condition(claim.origin.clone(), ConditionScope::Object, kind));
    }
    conditions
}

/// Outcome for one listener.
#[derive(Clone)]
enum Verdict {
    Programmed,
    Pending(&'static str, String),
}

impl Verdict {
    /// The worse of two; of two bad ones the first.
    fn and(self, other: Self) -> Self {
        match self {
            Self::Programmed => other,
            pending @ Self::Pending(..) => pending,
        }
    }

    fn condition(&self, origin: Origin, scope: ConditionScope, kind: &str) -> ConditionIntent {
        let (status, reason, message) = match self {
            Self::Programmed => (ConditionStatus::True, "Programmed", "the proxy serves it".to_owned()),
            Self::Pending(reason, message) => (ConditionStatus::False, *reason, message.clone()),
        };
        ConditionIntent { origin, scope, kind: kind.to_owned(), status, reason: reason.to_owned(), message }
    }
}

/// `serving` are the proxy's listeners that serve the row.
fn of_listener(
    derived: &Derived,
    row: &Listener,
    serving: &[&EffectiveListener],
    proxy: &ProxyListeners,
) -> Verdict {
    if serving.is_empty() {
        let has_address = derived.addresses.contains_key(&row.key.object);
        return if has_address {
            Verdict::Pending(
                "Invalid",
                format!("port {} cannot be served, see the other conditions", row.port),
            )
        } else {
            Verdict::Pending("AddressNotAssigned", "it was given no address, see AddressAssigned".to_owned())
        };
    }
    for listener in serving {
        if let Some(reason) = proxy.refused.get(&listener.name) {
            let message = format!("the proxy refuses listener {}: {reason}", listener.name);
            return Verdict::Pending("Invalid", message);
        }
        if !proxy.accepted.contains(&listener.name) {
            let message = format!("the proxy has not taken listener {} yet", listener.name);
            return Verdict::Pending("Pending", message);
        }
    }
    Verdict::Programmed
}
