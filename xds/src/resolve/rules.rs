//! Rules made ready to be put on hosts: matches in one spelling, header changes that proxies accept.

use std::sync::Arc;

use mesh_model::l7::{
    Action, HeaderMutation, PathMatch, Route, RouteMatch, Rule, check_changed_header, check_header_value,
    check_host,
};

use super::conditions::{Conditions, Problem};
use super::effective::EffectiveRule;
use super::order::FieldOrder;

/// A route whose rules are ready.
pub(super) struct PreparedRoute<'a> {
    /// The row.
    pub(super) route: &'a Route,
    /// Its place in the object.
    pub(super) field: FieldOrder,
    /// In the row's order.
    pub(super) rules: Vec<PreparedRule>,
}

/// A rule that is ready.
pub(super) struct PreparedRule {
    /// Its matches, headers and query parameters sorted so that equal matches compare equal.
    pub(super) matches: Vec<Arc<RouteMatch>>,
    /// The rest of it. Redirects are not resolved yet.
    pub(super) rule: Arc<EffectiveRule>,
}

/// Gets the rules of a route ready. What no proxy would accept is left out here, with a condition, because
/// one refused entry would hold back the table that everybody shares.
pub(super) fn prepare<'a>(route: &'a Route, conditions: &mut Conditions) -> PreparedRoute<'a> {
    let rules = route.rules.iter().map(|rule| prepare_rule(route, rule, conditions)).collect();
    PreparedRoute { route, field: FieldOrder::of(&route.origin.field), rules }
}

fn prepare_rule(route: &Route, rule: &Rule, conditions: &mut Conditions) -> PreparedRule {
    let origin = route.origin.at(rule.field.clone());
    let mut problem = |message: String| conditions.add(origin.clone(), Problem::UnsupportedValue, message);

    let matches = rule.matches.iter().filter_map(|m| prepare_match(m, &rule.field, &mut problem)).collect();
    let mut request_headers = rule.request_headers.clone();
    let mut action = rule.action.clone();
    if let Action::Forward(forward) = &mut action {
        let host = take_host(&mut request_headers, &rule.field, &mut problem);
        if forward.rewrite.hostname.is_none() {
            forward.rewrite.hostname = host;
        }
        for backend in &mut forward.backends {
            backend.request_headers = clean(&backend.request_headers, &rule.field, &mut problem);
            backend.response_headers = clean(&backend.response_headers, &rule.field, &mut problem);
        }
    }
    let rule = EffectiveRule {
        request_headers: clean(&request_headers, &rule.field, &mut problem),
        response_headers: clean(&rule.response_headers, &rule.field, &mut problem),
        action,
        timeouts: rule.timeouts,
        origin: origin.clone(),
    };
    PreparedRule { matches, rule: Arc::new(rule) }
}

fn prepare_match(
    matches: &RouteMatch,
    field: &str,
    problem: &mut impl FnMut(String),
) -> Option<Arc<RouteMatch>> {
    let mut matches = matches.clone();
    if let PathMatch::Exact(path) | PathMatch::Prefix(path) = &matches.path
        && (!path.starts_with('/') || path.contains(['?', '#']))
    {
        problem(format!(
            "{field}: path {path:?} matches no request and is left out: a path starts with '/' and has no '?' or '#'"
        ));
        return None;
    }
    if let PathMatch::Prefix(path) = &mut matches.path {
        let trimmed = path.trim_end_matches('/').len();
        path.truncate(trimmed.max(1));
    }
    matches.headers.sort();
    matches.query.sort();
    Some(Arc::new(matches))
}

/// Setting `host` among the headers is a rewrite of the host; proxies refuse it as a header.
fn take_host(headers: &mut HeaderMutation, field: &str, problem: &mut impl FnMut(String)) -> Option<String> {
    let index = headers.set.iter().position(|(name, _)| name == "host")?;
    let (_, host) = headers.set.remove(index);
    match check_host(&host) {
        Ok(()) => Some(host),
        Err(why) => {
            problem(format!("{field}: {host:?} {why}"));
            None
        }
    }
}

/// The changes that proxies accept. `remove` comes last in the model and first in Envoy, so what is removed
/// in the end is never set.
fn clean(headers: &HeaderMutation, field: &str, problem: &mut impl FnMut(String)) -> HeaderMutation {
    let mut refused = |name: &str, value: &str| {
        if let Err(why) = check_changed_header(name) {
            problem(format!("{field}: header {name:?} {why}"));
            true
        } else if let Err(why) = check_header_value(value) {
            problem(format!("{field}: the value of header {name:?} {why}"));
            true
        } else {
            false
        }
    };
    let removed = |name: &String| headers.remove.contains(name);
    let mut keep = |pairs: &[(String, String)]| -> Vec<(String, String)> {
        pairs.iter().filter(|(n, v)| !refused(n, v) && !removed(n)).cloned().collect()
    };
    let (set, add) = (keep(&headers.set), keep(&headers.add));
    let remove = headers.remove.iter().filter(|name| !refused(name, "")).cloned().collect();
    HeaderMutation { set, add, remove }
}
