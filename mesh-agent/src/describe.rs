//! One object with all that follows from it: what `describe` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_k8s_api::{Kind, Object};
use mesh_model::l7::{Action, HeaderMutation, PathMatch, PathRewrite, RouteMatch, ValueMatch};
use mesh_model::service::{ServiceIndex, ServicePortKey};
use mesh_model::{NamespacedName, ObjectKey};
use mesh_xds::resolve::{Binding, EffectiveListener, EffectiveRoute};
use mesh_xds_proto::redact;
use serde_json::{Value, json};

use crate::derive::Derived;
use crate::programmed::ProxyListeners;
use crate::services::{BackendRow, ServiceRow};
use crate::state::State;
use crate::status::{is_bad, scope_name, status_name};

/// Everything about an object. `frontends` are all rows of `service list`. Cost: a walk over all routes.
pub(crate) fn describe(state: &State, object: &Object, document: Value, frontends: &[ServiceRow]) -> Value {
    let derived = &*state.derived;
    let key = object.key();
    let routes = routes_of(derived, &key);
    let listeners = listeners_of(derived, &key, &routes);
    let clusters = clusters_of(derived, &key, &routes);
    let shown_frontends: Vec<&ServiceRow> = frontends
        .iter()
        .filter(|row| {
            let of_service = key.kind == "Service" && row.service.as_ref() == Some(&key.name);
            let of_listener = row
                .proxy
                .as_ref()
                .is_some_and(|proxy| listeners.iter().any(|listener| listener.name == proxy.listener));
            of_service || (key.kind != "Service" && of_listener)
        })
        .collect();
    json!({
        "kind": key.kind,
        "namespace": key.name.namespace,
        "name": key.name.name,
        "source": object.source().to_string(),
        "generation": object.origin().generation,
        "uid": object.origin().uid,
        "addresses": derived.addresses.get(&key).cloned().unwrap_or_default(),
        "conditions": conditions(state, &key),
        "problems": problems(state, &key),
        "listeners": listeners.iter().map(|l| listener_row(l, &key, &state.proxy)).collect::<Vec<_>>(),
        "routes": routes.iter().map(RouteOf::row).collect::<Vec<_>>(),
        "clusters": clusters.iter().map(|cluster| cluster_row(derived, cluster)).collect::<Vec<_>>(),
        "frontends": shown_frontends,
        "usedBy": used_by(derived, object),
        "object": document,
    })
}

fn conditions(state: &State, key: &ObjectKey) -> Vec<Value> {
    let all = state.conditions.iter().map(|dated| &dated.condition);
    let of_object = all.filter(|condition| condition.origin.object == *key);
    let row = |condition: &mesh_model::ConditionIntent| {
        json!({
            "scope": scope_name(&condition.scope),
            "type": condition.kind,
            "status": status_name(condition.status),
            "good": !is_bad(condition),
            "reason": condition.reason,
            "message": condition.message,
            "field": condition.origin.field,
        })
    };
    let mut seen = BTreeSet::new();
    // Several stages may say the same.
    of_object.map(row).filter(|row| seen.insert(row.to_string())).collect()
}

fn problems(state: &State, key: &ObjectKey) -> Vec<Value> {
    let name = key.to_string();
    state.problems.iter().filter(|problem| problem.object == name).map(|problem| json!(problem)).collect()
}

/// A route and where it ended up.
struct RouteOf<'a> {
    table: &'a str,
    host: String,
    route: &'a EffectiveRoute,
}

impl RouteOf<'_> {
    fn row(&self) -> Value {
        let rule = &self.route.rule;
        json!({
            "table": self.table,
            "host": self.host,
            "match": match_text(&self.route.matches),
            "action": action_text(&rule.action),
            "requestHeaders": shown_headers(&rule.request_headers),
            "responseHeaders": shown_headers(&rule.response_headers),
            "from": rule.origin.field,
        })
    }

    fn backends(&self) -> impl Iterator<Item = &ServicePortKey> {
        let forward = match &self.route.rule.action {
            Action::Forward(forward) => Some(forward),
            Action::Redirect(_) | Action::Respond(_) => None,
        };
        forward.into_iter().flat_map(|forward| &forward.backends).filter_map(|b| b.backend.as_ref())
    }
}

/// Changes to headers, credentials hidden as in a dump of the proxy's resources.
fn shown_headers(changes: &HeaderMutation) -> HeaderMutation {
    let mut shown = changes.clone();
    for (name, value) in shown.set.iter_mut().chain(&mut shown.add) {
        if redact::is_credential(name) {
            redact::REDACTED.clone_into(value);
        }
    }
    shown
}

/// All routes with where they are.
fn all_routes(derived: &Derived) -> impl Iterator<Item = RouteOf<'_>> {
    derived.effective.route_tables.iter().flat_map(|table| {
        table.hosts.iter().flat_map(move |host| {
            let deeper = host.deeper.iter().flatten();
            let routes = host.routes.iter().chain(deeper);
            routes.map(move |route| RouteOf { table: &table.name, host: host.host.to_string(), route })
        })
    })
}

/// The routes that an object wrote; of a Gateway those on its listeners.
fn routes_of<'a>(derived: &'a Derived, key: &ObjectKey) -> Vec<RouteOf<'a>> {
    if key.kind == "Gateway" {
        let own = derived.effective.listeners.iter().filter(|listener| serves(listener, key));
        let tables: BTreeSet<&str> =
            own.flat_map(|listener| &listener.chains).map(|chain| chain.route_table.as_str()).collect();
        return all_routes(derived).filter(|route| tables.contains(route.table)).collect();
    }
    all_routes(derived).filter(|route| route.route.rule.origin.object == *key).collect()
}

fn serves(listener: &EffectiveListener, key: &ObjectKey) -> bool {
    listener.rows.iter().any(|row| row.object == *key)
}

/// The listeners that an object asked for, or whose tables hold its routes; of a Service those in its place.
fn listeners_of<'a>(
    derived: &'a Derived,
    key: &ObjectKey,
    routes: &[RouteOf<'_>],
) -> Vec<&'a EffectiveListener> {
    let tables: BTreeSet<&str> = routes.iter().map(|route| route.table).collect();
    let addresses: BTreeSet<IpAddr> = match key.kind.as_str() {
        "Service" => service_addresses(&derived.ingested.services, &key.name),
        _ => BTreeSet::new(),
    };
    let listeners = derived.effective.listeners.iter().filter(|listener| {
        let has_table = listener.chains.iter().any(|chain| tables.contains(chain.route_table.as_str()));
        let in_its_place = listener.addresses.iter().any(|address| addresses.contains(&address.ip()));
        serves(listener, key) || has_table || in_its_place
    });
    listeners.collect()
}

fn service_addresses(services: &ServiceIndex, name: &NamespacedName) -> BTreeSet<IpAddr> {
    let service = services.get(name);
    service.into_iter().flat_map(|s| s.cluster_ips.iter().chain(&s.external_ips)).copied().collect()
}

fn listener_row(listener: &EffectiveListener, key: &ObjectKey, proxy: &ProxyListeners) -> Value {
    let (state, reason) = match proxy.refused.get(&listener.name) {
        Some(reason) => ("refused", reason.as_str()),
        None if proxy.accepted.contains(&listener.name) => ("accepted", ""),
        None => ("pending", ""),
    };
    let own_sections = listener.rows.iter().filter(|row| row.object == *key).map(|row| &row.section);
    let mut tables: Vec<&str> = listener.chains.iter().map(|chain| chain.route_table.as_str()).collect();
    tables.dedup();
    json!({
        "name": listener.name,
        "owner": listener.label,
        "addresses": listener.addresses,
        "binding": match listener.binding {
            Binding::Bound => "bound",
            Binding::HandOff => "redirected",
        },
        "tls": listener.chains.iter().any(|chain| chain.tls.is_some()),
        "sections": own_sections.collect::<Vec<_>>(),
        "routeTables": tables,
        "state": state,
        "reason": reason,
    })
}

/// The Service ports that the routes send to; of a Service its own.
fn clusters_of(derived: &Derived, key: &ObjectKey, routes: &[RouteOf<'_>]) -> Vec<ServicePortKey> {
    let mut clusters: BTreeSet<ServicePortKey> = routes.iter().flat_map(RouteOf::backends).cloned().collect();
    if key.kind == "Service" {
        let own = derived.effective.clusters.iter().map(|cluster| &cluster.key);
        clusters.extend(own.filter(|cluster| cluster.service == key.name).cloned());
    }
    clusters.into_iter().collect()
}

fn cluster_row(derived: &Derived, key: &ServicePortKey) -> Value {
    let backends = derived.ingested.backends.get(&key.service);
    let endpoints: Vec<BackendRow> = backends
        .into_iter()
        .flat_map(|backends| &backends.ports)
        .filter(|((port, protocol), _)| *port == key.port && *protocol == mesh_model::service::Protocol::Tcp)
        .flat_map(|(_, backends)| backends)
        .map(BackendRow::from)
        .collect();
    json!({
        "name": mesh_xds::lower::cluster_name(key),
        "service": key.service,
        "port": key.port,
        "serviceExists": derived.ingested.services.contains_key(&key.service),
        "endpoints": endpoints,
    })
}

/// Objects that would be others without this one: `Kind namespace/name`, sorted.
fn used_by(derived: &Derived, object: &Object) -> Vec<String> {
    let key = object.key();
    let mut users: BTreeSet<&ObjectKey> = BTreeSet::new();
    match object.kind() {
        Kind::Service => {
            let sends_here = |route: &RouteOf<'_>| route.backends().any(|b| b.service == key.name);
            let sending: Vec<RouteOf<'_>> = all_routes(derived).filter(sends_here).collect();
            users.extend(sending.iter().map(|route| &route.route.rule.origin.object));
        }
        Kind::Secret => users.extend(
            derived
                .fragments
                .listeners
                .iter()
                .filter(|l| l.tls.as_ref().is_some_and(|tls| tls.certificates.contains(&key.name)))
                .map(|listener| &listener.key.object),
        ),
        Kind::Gateway => {
            let routes: Vec<RouteOf<'_>> = routes_of(derived, &key);
            users.extend(routes.iter().map(|route| &route.route.rule.origin.object));
        }
        Kind::EndpointSlice => {
            return slice_users(object).into_iter().collect();
        }
        _ => {}
    }
    users.into_iter().filter(|user| **user != key).map(ToString::to_string).collect()
}

/// An EndpointSlice names its Service by a label.
fn slice_users(object: &Object) -> Option<String> {
    let Object::EndpointSlice(slice) = object else { return None };
    let labels = slice.object.metadata.labels.as_ref()?;
    let service = labels.get(mesh_k8s_ingest::SERVICE_NAME)?;
    let namespace = slice.object.metadata.namespace.as_deref().unwrap_or_default();
    Some(format!("Service {namespace}/{service}"))
}

/// A match on one line, such as `GET /shop/* header x-version=2`.
fn match_text(matches: &RouteMatch) -> String {
    let path = match &matches.path {
        PathMatch::Exact(path) => format!("={path}"),
        PathMatch::Prefix(prefix) if prefix == "/" => "/*".to_owned(),
        PathMatch::Prefix(prefix) => format!("{prefix}/*"),
        PathMatch::Regex(expression) => format!("~{expression}"),
    };
    let value = |value: &ValueMatch| match value {
        ValueMatch::Exact(value) => format!("={value}"),
        ValueMatch::Regex(expression) => format!("~{expression}"),
    };
    let method = matches.method.iter().cloned();
    let headers =
        matches.headers.iter().map(|header| format!("header {}{}", header.name, value(&header.value)));
    let query = matches.query.iter().map(|query| format!("query {}{}", query.name, value(&query.value)));
    method.chain([path]).chain(headers).chain(query).collect::<Vec<_>>().join(" ")
}

/// An action on one line, such as `forward to shop/web:80 (90), shop/web2:80 (10)`.
fn action_text(action: &Action) -> String {
    match action {
        Action::Forward(forward) => {
            let many = forward.backends.len() > 1;
            let backend = |backend: &mesh_model::l7::WeightedBackend| {
                let to = backend.backend.as_ref().map_or("nothing (500)".to_owned(), ToString::to_string);
                if many { format!("{to} ({})", backend.weight) } else { to }
            };
            let backends: Vec<String> = forward.backends.iter().map(backend).collect();
            let to = if backends.is_empty() { "nothing (500)".to_owned() } else { backends.join(", ") };
            let path = forward.rewrite.path.as_ref().map(|path| format!(", path {}", path_text(path)));
            let host = forward.rewrite.hostname.as_ref().map(|host| format!(", host {host}"));
            format!("forward to {to}{}{}", path.unwrap_or_default(), host.unwrap_or_default())
        }
        Action::Redirect(redirect) => {
            let parts = [
                redirect.scheme.as_ref().map(|scheme| format!(" scheme {scheme}")),
                redirect.hostname.as_ref().map(|host| format!(" host {host}")),
                redirect.port.map(|port| format!(" port {port}")),
                redirect.path.as_ref().map(|path| format!(" path {}", path_text(path))),
            ];
            format!("redirect {}:{}", redirect.status, parts.into_iter().flatten().collect::<String>())
        }
        Action::Respond(respond) => format!("respond {}", respond.status),
    }
}

fn path_text(path: &PathRewrite) -> String {
    match path {
        PathRewrite::Full(path) => format!("becomes {path}"),
        PathRewrite::Prefix(prefix) => format!("prefix becomes {prefix}"),
    }
}

/// By kind, how many objects were read.
pub(crate) fn counts(state: &State) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for object in state.objects.iter() {
        *counts.entry(object.kind().as_str()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests;
