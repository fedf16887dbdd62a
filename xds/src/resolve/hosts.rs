//! Route tables: which host a route ends up on, and who wins where two ask for the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_model::Hostname;
use mesh_model::l7::{Action, Listener, PathMatch, RouteMatch};
use mesh_model::origin::ObjectKey;

use super::Attached;
use super::conditions::{Conditions, Problem};
use super::effective::{EffectiveHost, EffectiveRoute, EffectiveRule, RouteTable};
use super::order::{OrderKey, Place, common_precedence};
use super::redirect::{Entrance, resolve_redirect};
use super::rules::PreparedRoute;

/// The routes that want a host.
#[derive(Default)]
struct HostClaims<'a> {
    /// A route, and whether it means a wildcard host for exactly one label.
    routes: Vec<(&'a PreparedRoute<'a>, bool)>,
}

/// The table of the listeners `rows`, which share addresses, port and scheme.
pub(super) fn listener_table<'a>(
    name: String,
    rows: &[&'a Listener],
    attached: &'a Attached<'a>,
    entrance: Entrance,
    conditions: &mut Conditions,
) -> RouteTable {
    let mut hosts: BTreeMap<Hostname, HostClaims<'a>> = BTreeMap::new();
    let mut of_object: BTreeMap<&ObjectKey, Vec<&Hostname>> = BTreeMap::new();
    for row in rows {
        of_object.entry(&row.key.object).or_default().push(&row.hostname);
    }
    for row in rows {
        // Even without routes: a request for this host must not fall to a less specific listener.
        hosts.entry(row.hostname.clone()).or_default();
        let siblings: Vec<&Hostname> = match &row.hostname {
            Hostname::Exact(_) => Vec::new(),
            wide => {
                let others = of_object.get(&row.key.object).into_iter().flatten();
                others.copied().filter(|other| narrower(other, wide)).collect()
            }
        };
        for &index in attached.listeners.get(&row.key).into_iter().flatten() {
            let prepared = &attached.routes[index];
            let any = [Hostname::Any];
            let hostnames =
                if prepared.route.hostnames.is_empty() { &any } else { &prepared.route.hostnames[..] };
            for hostname in hostnames {
                let one_label =
                    prepared.route.wildcard_one_label && matches!(hostname, Hostname::Wildcard(_));
                let Some(host) = meet(&row.hostname, hostname, one_label) else { continue };
                // Gateway API, listener isolation: a request belongs to the most specific listener of its
                // Gateway that covers its host, so a wider listener's route never sees it.
                if siblings.iter().any(|sibling| covers(sibling, &host)) {
                    continue;
                }
                let one_label = one_label && matches!(host, Hostname::Wildcard(_));
                hosts.entry(host).or_default().routes.push((prepared, one_label));
            }
        }
    }
    build_table(name, hosts, entrance, conditions)
}

/// The table of a Service port: one host, whatever the routes say about hosts.
pub(super) fn service_table<'a>(
    name: String,
    routes: &[usize],
    attached: &'a Attached<'a>,
    entrance: Entrance,
    conditions: &mut Conditions,
) -> RouteTable {
    let routes = routes.iter().map(|&index| (&attached.routes[index], false)).collect();
    build_table(name, BTreeMap::from([(Hostname::Any, HostClaims { routes })]), entrance, conditions)
}

fn build_table(
    name: String,
    hosts: BTreeMap<Hostname, HostClaims<'_>>,
    entrance: Entrance,
    conditions: &mut Conditions,
) -> RouteTable {
    let mut built: BTreeMap<&Hostname, EffectiveHost> = BTreeMap::new();
    // Wider hosts first: a wildcard for one label borrows from the next wider one what it does not cover.
    let mut order: Vec<(&Hostname, &HostClaims<'_>)> = hosts.iter().collect();
    order.sort_by_key(|(host, _)| (specificity(host), *host));
    for (host, claims) in order {
        let entries = entries(claims);
        let routes = winners(host, entries.iter(), entrance, Some(conditions));
        let deeper = entries.iter().any(|entry| entry.one_label).then(|| {
            let own = winners(host, entries.iter().filter(|entry| !entry.one_label), entrance, None);
            if own.is_empty() { borrowed(host, &built) } else { own }
        });
        built.insert(host, EffectiveHost { host: host.clone(), routes, deeper });
    }
    let mut hosts: Vec<EffectiveHost> = built.into_values().collect();
    // A catch-all host without routes answers 404, as a table without it does.
    hosts.retain(|host| host.host != Hostname::Any || !host.routes.is_empty());
    RouteTable { name, hosts }
}

/// A match on a host.
struct Entry<'a> {
    key: OrderKey<'a>,
    one_label: bool,
    matches: &'a Arc<RouteMatch>,
    rule: &'a Arc<EffectiveRule>,
}

/// All matches on a host in the order in which they are tried.
fn entries<'a>(claims: &HostClaims<'a>) -> Vec<Entry<'a>> {
    let precedence = common_precedence(claims.routes.iter().map(|(route, _)| route.route.precedence));
    let mut entries = Vec::new();
    for (prepared, one_label) in &claims.routes {
        for (rule, ready) in prepared.rules.iter().enumerate() {
            for (matched, matches) in ready.matches.iter().enumerate() {
                entries.push(Entry {
                    key: OrderKey::new(
                        precedence,
                        matches,
                        (&prepared.route.origin, &prepared.field),
                        Place { rule, matched },
                    ),
                    one_label: *one_label,
                    matches,
                    rule: &ready.rule,
                });
            }
        }
    }
    entries.sort_by(|a, b| (&a.key, a.one_label).cmp(&(&b.key, b.one_label)));
    entries
}

/// The first of all entries with equal matches; the owners of the others are told, if they are others.
fn winners<'e, 'a: 'e>(
    host: &Hostname,
    entries: impl Iterator<Item = &'e Entry<'a>>,
    entrance: Entrance,
    mut conditions: Option<&mut Conditions>,
) -> Vec<EffectiveRoute> {
    let mut first: BTreeMap<&RouteMatch, &Entry<'a>> = BTreeMap::new();
    let mut routes = Vec::new();
    for entry in entries {
        if let Some(winner) = first.get(entry.matches.as_ref()) {
            let (won, lost) = (&winner.rule.origin, &entry.rule.origin);
            // One that only loses hosts with a single label still serves deeper ones.
            let partly = winner.one_label && !entry.one_label;
            if won.object != lost.object
                && !partly
                && let Some(conditions) = &mut conditions
            {
                conditions.add(lost.clone(), Problem::RouteConflict, conflict_message(host, entry, won));
            }
            continue;
        }
        first.insert(entry.matches, entry);
        routes.push(EffectiveRoute {
            matches: entry.matches.clone(),
            rule: resolve_rule(entry.rule, host, entrance),
        });
    }
    routes
}

fn conflict_message(host: &Hostname, entry: &Entry<'_>, winner: &mesh_model::Origin) -> String {
    let (kind, path) = match &entry.matches.path {
        PathMatch::Exact(path) => ("exact path", path),
        PathMatch::Prefix(path) => ("path prefix", path),
        PathMatch::Regex(path) => ("path expression", path),
    };
    let lost = &entry.rule.origin;
    let why = if winner.created_ms < lost.created_ms { "is older" } else { "comes first by name" };
    let host = match host {
        Hostname::Any => "every host".to_owned(),
        host => format!("host {host}"),
    };
    format!(
        "{}: {host}, {kind} {path} is served by {} ({}), which {why}; change host or path of one of them",
        lost.field, winner.object, winner.source
    )
}

/// The rule as it is for one host of one table: only redirects depend on that.
fn resolve_rule(rule: &Arc<EffectiveRule>, host: &Hostname, entrance: Entrance) -> Arc<EffectiveRule> {
    let Action::Redirect(redirect) = &rule.action else { return rule.clone() };
    let resolved = resolve_redirect(redirect, host, entrance);
    if resolved == *redirect {
        return rule.clone();
    }
    Arc::new(EffectiveRule { action: Action::Redirect(resolved), ..EffectiveRule::clone(rule) })
}

/// What the next wider host answers for hosts that lie deeper than one label below `host`.
fn borrowed(host: &Hostname, built: &BTreeMap<&Hostname, EffectiveHost>) -> Vec<EffectiveRoute> {
    let Hostname::Wildcard(suffix) = host else { return Vec::new() };
    let mut rest = suffix.as_str();
    let wider = std::iter::from_fn(|| {
        rest = rest.split_once('.')?.1;
        Some(Hostname::Wildcard(rest.to_owned()))
    });
    let wider = wider.chain([Hostname::Any]).find_map(|wider| built.get(&wider));
    wider.map(|wider| wider.deeper.as_ref().unwrap_or(&wider.routes).clone()).unwrap_or_default()
}

/// Where the host names of a listener and a route meet. A route's wildcard for one label does not meet
/// exact names further down.
fn meet(listener: &Hostname, route: &Hostname, one_label: bool) -> Option<Hostname> {
    let host = listener.intersect(route)?;
    if one_label
        && let (Hostname::Wildcard(suffix), Hostname::Exact(name)) = (route, &host)
        && name.strip_suffix(suffix.as_str()).is_some_and(|head| head.trim_end_matches('.').contains('.'))
    {
        return None;
    }
    Some(host)
}

/// True when every host of `inner` is one of `outer`.
fn covers(outer: &Hostname, inner: &Hostname) -> bool {
    outer.intersect(inner).as_ref() == Some(inner)
}

/// True when `inner` covers less than `outer`, all of which `outer` covers.
fn narrower(inner: &Hostname, outer: &Hostname) -> bool {
    inner != outer && covers(outer, inner)
}

/// Grows with how much a host name says: any, then wildcards by length, then exact names.
fn specificity(host: &Hostname) -> (u8, usize) {
    match host {
        Hostname::Any => (0, 0),
        Hostname::Wildcard(suffix) => (1, suffix.len()),
        Hostname::Exact(_) => (2, 0),
    }
}
