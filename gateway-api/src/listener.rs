//! One listener of a Gateway: what is wrong with it, and the row when nothing is.

use mesh_model::address::LabelSelector;
use mesh_model::l7::{Listener, ListenerKey, ListenerProtocol, ListenerTls};
use mesh_model::secret::TlsCertificate;
use mesh_model::{Hostname, NamespacedName, Note, Origin};

use crate::api::{
    GatewayListeners, GatewayListenersAllowedRoutesNamespacesFrom as From, GatewayListenersTls,
    GatewayListenersTlsMode,
};
use crate::context::Context;
use crate::grants::{GATEWAY, GATEWAY_GROUP, Grants, HTTP_ROUTE, SECRET};
use crate::namespaces::selector;
use crate::report::Refusal;

/// Namespaces that a listener takes routes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AllowedNamespaces {
    All,
    Same,
    Selected(LabelSelector),
}

/// A listener as read.
#[derive(Debug)]
pub(crate) struct ListenerState {
    pub(crate) key: ListenerKey,
    pub(crate) origin: Origin,
    /// As written; only `HTTP` and `HTTPS` are served.
    pub(crate) protocol: String,
    /// `None` when it is no port.
    pub(crate) port: Option<u16>,
    /// `None` when it is no host name.
    pub(crate) hostname: Option<Hostname>,
    /// Kinds of routes that are both asked for and supported, sorted.
    pub(crate) kinds: Vec<String>,
    pub(crate) namespaces: AllowedNamespaces,
    /// Certificates that can be used, in the object's order.
    pub(crate) certificates: Vec<NamespacedName>,
    /// Why it is not accepted.
    pub(crate) refused: Option<Refusal>,
    /// References of it that cannot be used.
    pub(crate) unresolved: Vec<Refusal>,
    /// The other listener that stands in its way.
    pub(crate) conflict: Option<Refusal>,
    /// Accepted routes that hang from it.
    pub(crate) attached: u32,
}

impl ListenerState {
    /// True when it is valid by itself and among its neighbours, whatever its certificates are.
    pub(crate) fn is_accepted(&self) -> bool {
        self.refused.is_none() && self.conflict.is_none()
    }

    /// True when it is served, as far as the Gateway lets it.
    pub(crate) fn is_served(&self) -> bool {
        self.is_accepted() && (self.protocol != "HTTPS" || !self.certificates.is_empty())
    }

    /// Why it is not served, if it is not.
    pub(crate) fn obstacle(&self) -> Option<String> {
        if let Some(refusal) = self.refused.as_ref().or(self.conflict.as_ref()) {
            return Some(refusal.text());
        }
        (!self.is_served()).then(|| format!("{}: no certificate can be used", self.origin.field))
    }

    /// Its row; `None` when it is not served.
    pub(crate) fn row(&self, trusted_hops: u32) -> Option<Listener> {
        if !self.is_served() {
            return None;
        }
        let https = self.protocol == "HTTPS";
        Some(Listener {
            key: self.key.clone(),
            origin: self.origin.clone(),
            port: self.port?,
            protocol: if https { ListenerProtocol::Https } else { ListenerProtocol::Http },
            hostname: self.hostname.clone()?,
            tls: https.then(|| ListenerTls { certificates: self.certificates.clone() }),
            trusted_hops,
        })
    }
}

/// Reads one listener of the Gateway at `gateway`. `client_validation`: the field that asks for client
/// certificates, which cannot be checked yet.
pub(crate) fn read(
    gateway: &Origin,
    field: &str,
    listener: &GatewayListeners,
    client_validation: Option<&str>,
    context: &Context<'_>,
    notes: &mut Vec<Note>,
) -> ListenerState {
    let origin = gateway.at(field);
    let mut state = ListenerState {
        key: ListenerKey { object: gateway.object.clone(), section: listener.name.clone() },
        origin,
        protocol: listener.protocol.clone(),
        port: u16::try_from(listener.port).ok().filter(|port| *port != 0),
        hostname: None,
        kinds: Vec::new(),
        namespaces: AllowedNamespaces::Same,
        certificates: Vec::new(),
        refused: None,
        unresolved: Vec::new(),
        conflict: None,
        attached: 0,
    };
    let mut refused = Vec::new();
    if state.port.is_none() {
        let message = format!("{} is no port; use 1 to 65535", listener.port);
        refused.push(Refusal::new(format!("{field}.port"), "Invalid", message));
    }
    match hostname(listener.hostname.as_deref()) {
        Ok(hostname) => state.hostname = Some(hostname),
        Err(message) => refused.push(Refusal::new(format!("{field}.hostname"), "Invalid", message)),
    }
    read_kinds(&mut state, field, listener);
    match namespaces(listener) {
        Ok(namespaces) => state.namespaces = namespaces,
        Err(message) => {
            refused.push(Refusal::new(format!("{field}.allowedRoutes.namespaces"), "Invalid", message));
        }
    }
    match (listener.protocol.as_str(), &listener.tls) {
        ("HTTP", None) => {}
        ("HTTP", Some(_)) => refused.push(Refusal::new(
            format!("{field}.tls"),
            "Invalid",
            "has no meaning with protocol HTTP; remove it or use HTTPS",
        )),
        ("HTTPS", tls) => {
            if let Some(validation) = client_validation {
                refused.push(Refusal::new(
                    validation,
                    "UnsupportedValue",
                    "client certificates cannot be checked yet, and serving without the check would not be \
                     what was asked for; remove it",
                ));
            }
            read_tls(&mut state, &mut refused, gateway, field, tls.as_ref(), context, notes);
        }
        (other, _) => refused.push(Refusal::new(
            format!("{field}.protocol"),
            "UnsupportedProtocol",
            format!("{other:?} is not supported; use HTTP or HTTPS"),
        )),
    }
    state.refused = refused.into_iter().next();
    state
}

fn hostname(text: Option<&str>) -> Result<Hostname, String> {
    let text = text.unwrap_or_default();
    if text == "*" {
        return Err("\"*\" is no host name; leave the field out for every host".to_owned());
    }
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Err(format!("{text:?} is an IP address; name a host or leave the field out"));
    }
    text.parse().map_err(|error| format!("{error}; write a name such as app.example.com or *.example.com"))
}

fn read_kinds(state: &mut ListenerState, field: &str, listener: &GatewayListeners) {
    let supported = matches!(listener.protocol.as_str(), "HTTP" | "HTTPS");
    let asked = listener.allowed_routes.as_ref().and_then(|allowed| allowed.kinds.as_ref());
    let Some(asked) = asked.filter(|kinds| !kinds.is_empty()) else {
        if supported {
            state.kinds.push(HTTP_ROUTE.kind.to_owned());
        }
        return;
    };
    for (index, asked) in asked.iter().enumerate() {
        let group = asked.group.as_deref().unwrap_or(GATEWAY_GROUP);
        if supported && group == HTTP_ROUTE.group && asked.kind == HTTP_ROUTE.kind {
            state.kinds.push(asked.kind.clone());
        } else {
            let at = format!("{field}.allowedRoutes.kinds[{index}]");
            let kind = &asked.kind;
            let message = format!(
                "{kind} in group {group:?} cannot hang from a listener of protocol {}; only HTTPRoute on HTTP and HTTPS can",
                listener.protocol
            );
            state.unresolved.push(Refusal::new(at, "InvalidRouteKinds", message));
        }
    }
    state.kinds.sort_unstable();
    state.kinds.dedup();
}

fn namespaces(listener: &GatewayListeners) -> Result<AllowedNamespaces, String> {
    let Some(allowed) = listener.allowed_routes.as_ref().and_then(|allowed| allowed.namespaces.as_ref())
    else {
        return Ok(AllowedNamespaces::Same);
    };
    match &allowed.from {
        None | Some(From::Same) => Ok(AllowedNamespaces::Same),
        Some(From::All) => Ok(AllowedNamespaces::All),
        Some(From::Selector) => {
            let Some(given) = &allowed.selector else {
                return Err(
                    "from is Selector and there is no selector; add one or use Same or All".to_owned()
                );
            };
            let expressions = given.match_expressions.iter().flatten().map(|expression| {
                let values = expression.values.as_deref().unwrap_or_default();
                (expression.key.as_str(), expression.operator.as_str(), values)
            });
            selector(given.match_labels.as_ref(), expressions).map(AllowedNamespaces::Selected)
        }
    }
}

fn read_tls(
    state: &mut ListenerState,
    refused: &mut Vec<Refusal>,
    gateway: &Origin,
    field: &str,
    tls: Option<&GatewayListenersTls>,
    context: &Context<'_>,
    notes: &mut Vec<Note>,
) {
    let passthrough =
        matches!(tls.and_then(|tls| tls.mode.as_ref()), Some(GatewayListenersTlsMode::Passthrough));
    if passthrough {
        refused.push(Refusal::new(
            format!("{field}.tls.mode"),
            "Invalid",
            "Passthrough is not possible with protocol HTTPS; use Terminate",
        ));
        return;
    }
    for option in tls.and_then(|tls| tls.options.as_ref()).into_iter().flat_map(|options| options.keys()) {
        let message = "the option is not known and has no effect; remove it";
        notes.push(
            Refusal::new(format!("{field}.tls.options[{option}]"), "UnsupportedValue", message).note(gateway),
        );
    }
    let references = tls.and_then(|tls| tls.certificate_refs.as_deref()).unwrap_or_default();
    let field = format!("{field}.tls.certificateRefs");
    if references.is_empty() {
        let message = "is empty; name a Secret of type kubernetes.io/tls";
        state.unresolved.push(Refusal::new(&field, "InvalidCertificateRef", message));
    }
    for (index, reference) in references.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let group = reference.group.as_deref().unwrap_or_default();
        let kind = reference.kind.as_deref().unwrap_or("Secret");
        let namespace = reference.namespace.as_deref().unwrap_or(&gateway.object.name.namespace);
        let name = NamespacedName::new(namespace, &reference.name);
        let refusal = if group != SECRET.group || kind != SECRET.kind {
            let message = format!("{kind} in group {group:?} holds no certificates; name a Secret");
            Refusal::new(field, "InvalidCertificateRef", message)
        } else if !context.grants.permit(GATEWAY, &gateway.object.name.namespace, SECRET, &name) {
            let advice = Grants::advice(GATEWAY, &gateway.object.name.namespace, SECRET, &name);
            Refusal::new(field, "RefNotPermitted", advice)
        } else {
            match context.certificates.get(&name) {
                Some(Ok(certificate)) => {
                    if let Some(wanted) =
                        state.hostname.as_ref().filter(|wanted| !is_for(certificate, wanted))
                    {
                        let names = certificate.dns_names.join(", ");
                        let message = format!(
                            "the certificate in Secret {name} is for {names}, not for {wanted}; clients will refuse it"
                        );
                        notes.push(Refusal::new(&field, "CertificateNameMismatch", message).note(gateway));
                    }
                    if !state.certificates.contains(&name) {
                        state.certificates.push(name);
                    }
                    continue;
                }
                Some(Err(why)) => Refusal::new(
                    field,
                    "InvalidCertificateRef",
                    format!("Secret {name} cannot be used: {why}"),
                ),
                None => Refusal::new(
                    field,
                    "InvalidCertificateRef",
                    format!("Secret {name} does not exist; create it or correct the name"),
                ),
            }
        };
        state.unresolved.push(refusal);
    }
}

/// True when the certificate has a name for the host. Its wildcards stand for one label (RFC 9525, section
/// 6.3), those of a listener for any number.
fn is_for(certificate: &TlsCertificate, wanted: &Hostname) -> bool {
    let names = &certificate.dns_names;
    let wildcard = |suffix: &str| names.iter().any(|name| name.strip_prefix("*.") == Some(suffix));
    match wanted {
        // Nothing is known about names, or about the hosts that clients will ask for.
        _ if names.is_empty() => true,
        Hostname::Any => true,
        Hostname::Wildcard(suffix) => wildcard(suffix),
        Hostname::Exact(host) => {
            names.contains(host) || host.split_once('.').is_some_and(|(_, parent)| wildcard(parent))
        }
    }
}
