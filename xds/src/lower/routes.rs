//! Route tables as `RouteConfiguration`.

use std::time::Duration;

use mesh_model::Hostname;
use mesh_model::l7::{Action, Forward, PathMatch, PathRewrite, Redirect, Respond, WeightedBackend};
use mesh_model::service::ServicePortKey;
use mesh_xds_proto::envoy_type::{FractionalPercent, fractional_percent::DenominatorType};
use mesh_xds_proto::matcher::RegexMatchAndSubstitute;
use mesh_xds_proto::route::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use mesh_xds_proto::route::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use mesh_xds_proto::route::weighted_cluster::ClusterWeight;
use mesh_xds_proto::route::{self, HeaderMatcher};
use mesh_xds_proto::{Any, any, core};

use super::headers::to_add;
use super::matches::{deeper_than_one_label, every_path, route_match};
use super::messages::{boolean, duration, number, regex, regex_escape};
use super::names::cluster_name;
use crate::resolve::{EffectiveHost, EffectiveRoute, EffectiveRule, RouteTable};

/// A table. Hosts match whatever port the client wrote behind them, and the backend sees that port.
pub(super) fn route_configuration(table: &RouteTable) -> Any {
    any(&route::RouteConfiguration {
        name: table.name.clone(),
        virtual_hosts: table.hosts.iter().map(virtual_host).collect(),
        ignore_port_in_host_matching: true,
        // Clusters come before routes on the stream; a table must not be refused while one is on its way.
        validate_clusters: boolean(false),
        ..Default::default()
    })
}

fn virtual_host(host: &EffectiveHost) -> route::VirtualHost {
    let mut routes = Vec::new();
    if let (Some(deeper), Hostname::Wildcard(suffix)) = (&host.deeper, &host.host) {
        // What lies deeper than one label is settled before all else, by one expression for each route of
        // its own; the routes behind need no expression for the host.
        let guard = deeper_than_one_label(suffix);
        routes.extend(deeper.iter().flat_map(|route| lower_route(route, Some(&guard))));
        let mut rest = every_path();
        rest.headers.push(guard);
        let action = route::route::Action::DirectResponse(respond(404, ""));
        routes.push(route::Route { r#match: Some(rest), action: Some(action), ..Default::default() });
    }
    routes.extend(host.routes.iter().flat_map(|route| lower_route(route, None)));
    let name = host.host.to_string();
    route::VirtualHost { name: name.clone(), domains: vec![name], routes, ..Default::default() }
}

/// One match, or two when a part of the requests has to be answered with 500 because its backend cannot
/// be used: Envoy has no cluster that answers 500, but it can let a share of the requests match.
fn lower_route(effective: &EffectiveRoute, guard: Option<&HeaderMatcher>) -> Vec<route::Route> {
    let rule = &effective.rule;
    let mut matched = route_match(&effective.matches);
    matched.headers.extend(guard.cloned());
    let path = &effective.matches.path;
    match &rule.action {
        Action::Redirect(to) => {
            vec![route_with(rule, matched, route::route::Action::Redirect(redirect(to, path)))]
        }
        Action::Respond(Respond { status, body }) => {
            vec![route_with(rule, matched, route::route::Action::DirectResponse(respond(*status, body)))]
        }
        Action::Forward(to) => {
            let shares = Shares::of(&to.backends);
            let mut routes = Vec::new();
            if shares.invalid > 0 || shares.valid.is_empty() {
                let mut unlucky = matched.clone();
                if !shares.valid.is_empty() {
                    unlucky.runtime_fraction = Some(shares.invalid_fraction());
                }
                let action = route::route::Action::DirectResponse(respond(500, ""));
                routes.push(route_with(rule, unlucky, action));
            }
            if !shares.valid.is_empty() {
                let action = forward(to, &shares, rule, path);
                routes.push(route_with(rule, matched, route::route::Action::Route(action)));
            }
            routes
        }
    }
}

fn route_with(
    rule: &EffectiveRule,
    matched: route::RouteMatch,
    action: route::route::Action,
) -> route::Route {
    let object = &rule.origin.object;
    route::Route {
        name: format!("{}/{}/{}", object.kind.to_ascii_lowercase(), object.name, rule.origin.field),
        r#match: Some(matched),
        request_headers_to_add: to_add(&rule.request_headers),
        request_headers_to_remove: rule.request_headers.remove.clone(),
        response_headers_to_add: to_add(&rule.response_headers),
        response_headers_to_remove: rule.response_headers.remove.clone(),
        action: Some(action),
        ..Default::default()
    }
}

/// How the weights of a rule are divided.
struct Shares<'a> {
    /// Backends that can be used, with weights above zero.
    valid: Vec<(&'a ServicePortKey, &'a WeightedBackend)>,
    /// Weight of those that cannot.
    invalid: u64,
}

impl<'a> Shares<'a> {
    fn of(backends: &'a [WeightedBackend]) -> Self {
        let weighted = backends.iter().filter(|backend| backend.weight > 0);
        let mut shares = Self { valid: Vec::new(), invalid: 0 };
        for backend in weighted {
            match &backend.backend {
                Some(key) => shares.valid.push((key, backend)),
                None => shares.invalid += u64::from(backend.weight),
            }
        }
        shares
    }

    fn invalid_fraction(&self) -> core::RuntimeFractionalPercent {
        let valid: u64 = self.valid.iter().map(|(_, backend)| u64::from(backend.weight)).sum();
        let parts = (self.invalid * 1_000_000).div_ceil(self.invalid + valid);
        core::RuntimeFractionalPercent {
            default_value: Some(FractionalPercent {
                numerator: u32::try_from(parts).unwrap_or(1_000_000),
                denominator: DenominatorType::Million.into(),
            }),
            runtime_key: String::new(),
        }
    }
}

fn forward(
    forward: &Forward,
    shares: &Shares<'_>,
    rule: &EffectiveRule,
    path: &PathMatch,
) -> route::RouteAction {
    let cluster = match shares.valid.as_slice() {
        [(key, one)] if one.request_headers.is_empty() && one.response_headers.is_empty() => {
            ClusterSpecifier::Cluster(cluster_name(key))
        }
        several => ClusterSpecifier::WeightedClusters(route::WeightedCluster {
            clusters: several.iter().map(|(key, backend)| weighted(key, backend)).collect(),
            ..Default::default()
        }),
    };
    let mut action = route::RouteAction {
        cluster_specifier: Some(cluster),
        timeout: duration(timeout(rule)),
        host_rewrite_specifier: forward
            .rewrite
            .hostname
            .clone()
            .map(HostRewriteSpecifier::HostRewriteLiteral),
        ..Default::default()
    };
    match forward.rewrite.path.as_ref().and_then(|rewrite| path_change(rewrite, path)) {
        Some(PathChange::Prefix(to)) => action.prefix_rewrite = to,
        Some(PathChange::Expression(change)) => action.regex_rewrite = Some(change),
        None => {}
    }
    action
}

fn weighted(key: &ServicePortKey, backend: &WeightedBackend) -> ClusterWeight {
    ClusterWeight {
        name: cluster_name(key),
        weight: number(backend.weight),
        request_headers_to_add: to_add(&backend.request_headers),
        request_headers_to_remove: backend.request_headers.remove.clone(),
        response_headers_to_add: to_add(&backend.response_headers),
        response_headers_to_remove: backend.response_headers.remove.clone(),
        ..Default::default()
    }
}

/// The shorter of the two time-outs: without retries one try is the whole request. Zero is none.
fn timeout(rule: &EffectiveRule) -> Duration {
    let both = [rule.timeouts.request, rule.timeouts.backend_request];
    both.into_iter().flatten().filter(|timeout| !timeout.is_zero()).min().unwrap_or_default()
}

fn respond(status: u16, body: &str) -> route::DirectResponseAction {
    let body = (!body.is_empty()).then(|| core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineString(body.to_owned())),
        ..Default::default()
    });
    route::DirectResponseAction { status: status.into(), body, ..Default::default() }
}

fn redirect(redirect: &Redirect, path: &PathMatch) -> route::RedirectAction {
    let code = match redirect.status {
        301 => RedirectResponseCode::MovedPermanently,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::Found,
    };
    let path_rewrite_specifier = match &redirect.path {
        Some(PathRewrite::Full(to)) => Some(PathRewriteSpecifier::PathRedirect(absolute(to))),
        Some(rewrite @ PathRewrite::Prefix(_)) => path_change(rewrite, path).map(|change| match change {
            PathChange::Prefix(to) => PathRewriteSpecifier::PrefixRewrite(to),
            PathChange::Expression(change) => PathRewriteSpecifier::RegexRewrite(change),
        }),
        None => None,
    };
    route::RedirectAction {
        scheme_rewrite_specifier: redirect.scheme.clone().map(SchemeRewriteSpecifier::SchemeRedirect),
        host_redirect: redirect.hostname.clone().unwrap_or_default(),
        port_redirect: redirect.port.unwrap_or_default().into(),
        response_code: code.into(),
        path_rewrite_specifier,
        ..Default::default()
    }
}

/// How Envoy is told to change a path.
enum PathChange {
    /// The matched prefix becomes this text.
    Prefix(String),
    /// What the expression matches becomes its substitution.
    Expression(RegexMatchAndSubstitute),
}

/// A change of a path that `path` matched. `None` where there is no prefix to change.
fn path_change(rewrite: &PathRewrite, path: &PathMatch) -> Option<PathChange> {
    match (rewrite, path) {
        (PathRewrite::Full(to), _) => Some(expression("^/.*$".to_owned(), &absolute(to))),
        (PathRewrite::Prefix(to), PathMatch::Prefix(from)) => {
            let to = absolute(to);
            if from == "/" {
                // All of the path lies behind this prefix, its own slash included.
                let to = if to.ends_with('/') { to } else { to + "/" };
                Some(PathChange::Prefix(to))
            } else if to.ends_with('/') {
                // Plain replacement would double the slash that follows the prefix: `/a/b` with `/` for
                // `/a` is `/b`, and `/a` itself is `/`.
                Some(expression(format!("^{}/?", regex_escape(from)), &to))
            } else {
                Some(PathChange::Prefix(to))
            }
        }
        // An exact path is its own prefix.
        (PathRewrite::Prefix(to), PathMatch::Exact(_)) => Some(expression("^/.*$".to_owned(), &absolute(to))),
        (PathRewrite::Prefix(_), PathMatch::Regex(_)) => None,
    }
}

fn expression(pattern: String, to: &str) -> PathChange {
    PathChange::Expression(RegexMatchAndSubstitute {
        pattern: Some(regex(pattern)),
        // A backslash starts a reference to a group.
        substitution: to.replace('\\', "\\\\"),
    })
}

/// A path always starts with a slash, also where the object left it out.
fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}
