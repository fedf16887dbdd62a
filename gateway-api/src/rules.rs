//! The rules of an HTTPRoute.

use std::time::Duration;

use mesh_model::l7::{Action, Forward, Respond, RouteMatch, Rule, Timeouts};
use mesh_model::{Note, Origin};

use crate::api::{self, HttpRouteRules, HttpRouteRulesTimeouts};
use crate::context::Context;
use crate::filters::{self, Filters};
use crate::report::Refusal;
use crate::{backends, matches};

/// The rules of a route as far as they can be served, and what is wrong with the others.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Rows in the object's order. A rule that is refused for anything but its matches is here and answers
    /// 500, so that its requests do not fall to another rule.
    pub(crate) rows: Vec<Rule>,
    /// One entry for each rule that is not served as written.
    pub(crate) refused: Vec<Refusal>,
    /// References that cannot be used.
    pub(crate) unresolved: Vec<Refusal>,
    /// Number of rules in the object.
    pub(crate) total: usize,
}

/// Reads the rules of the route at `origin`. A route without rules has one that matches everything, as the
/// API's default has it.
pub(crate) fn read(
    given: &[HttpRouteRules],
    origin: &Origin,
    context: &Context<'_>,
    notes: &mut Vec<Note>,
) -> Rules {
    let default = [HttpRouteRules::default()];
    let given = if given.is_empty() { &default } else { given };
    let mut rules = Rules { total: given.len(), ..Rules::default() };
    for (index, rule) in given.iter().enumerate() {
        let field = format!("spec.rules[{index}]");
        note_unsupported(rule, &field, origin, notes);
        let matches = match matches::read(rule.matches.as_deref().unwrap_or_default(), &field) {
            Ok(matches) => matches,
            Err(refusal) => {
                rules.refused.push(refusal);
                continue;
            }
        };
        let namespace = &origin.object.name.namespace;
        let row = match read_one(rule, &matches, namespace, &field, context, &mut rules.unresolved) {
            Ok(served) => Rule {
                field,
                matches,
                request_headers: served.filters.request_headers,
                response_headers: served.filters.response_headers,
                action: served.action,
                timeouts: served.timeouts,
            },
            Err(refusal) => {
                rules.refused.push(refusal);
                let filters = Filters::default();
                Rule {
                    field,
                    matches,
                    request_headers: filters.request_headers,
                    response_headers: filters.response_headers,
                    action: refuse_requests(),
                    timeouts: Timeouts::default(),
                }
            }
        };
        rules.rows.push(row);
    }
    rules
}

struct Served {
    filters: Filters,
    action: Action,
    timeouts: Timeouts,
}

fn read_one(
    rule: &HttpRouteRules,
    matches: &[RouteMatch],
    namespace: &str,
    field: &str,
    context: &Context<'_>,
    unresolved: &mut Vec<Refusal>,
) -> Result<Served, Refusal> {
    let mut filters = filters::read(rule.filters.as_deref().unwrap_or_default(), matches, field)?;
    let timeouts =
        rule.timeouts.as_ref().map(|given| timeouts(given, field)).transpose()?.unwrap_or_default();
    let mut own_unresolved = Vec::new();
    let mut backends = Vec::new();
    for (index, reference) in rule.backend_refs.iter().flatten().enumerate() {
        let field = format!("{field}.backendRefs[{index}]");
        backends.push(backends::read(reference, namespace, &field, context, &mut own_unresolved)?);
    }
    unresolved.append(&mut own_unresolved);
    let action = match filters.redirect.take() {
        Some(_) if !backends.is_empty() => {
            let message = "a rule with a RequestRedirect sends nothing on; remove backendRefs or the filter";
            return Err(Refusal::new(format!("{field}.backendRefs"), "IncompatibleFilters", message));
        }
        Some(redirect) => Action::Redirect(redirect),
        // The specification: no backend and no filter that answers is answered with 500.
        None if backends.is_empty() => refuse_requests(),
        None => Action::Forward(Forward { backends, rewrite: std::mem::take(&mut filters.rewrite) }),
    };
    Ok(Served { filters, action, timeouts })
}

fn refuse_requests() -> Action {
    Action::Respond(Respond { status: 500, body: String::new() })
}

fn timeouts(given: &HttpRouteRulesTimeouts, field: &str) -> Result<Timeouts, Refusal> {
    let field = format!("{field}.timeouts");
    let read = |text: &Option<String>, name: &str| -> Result<Option<Duration>, Refusal> {
        let Some(text) = text else { return Ok(None) };
        match text.parse::<api::Duration>() {
            Ok(duration) => Ok(Some(Duration::new(duration.as_secs(), duration.subsec_nanos()))),
            Err(_) => {
                let message = format!("{text:?} is no duration; write one such as 500ms, 10s or 1h30m");
                Err(Refusal::new(format!("{field}.{name}"), "UnsupportedValue", message))
            }
        }
    };
    let request = read(&given.request, "request")?;
    let backend_request = read(&given.backend_request, "backendRequest")?;
    // Zero means none, which no time-out of a try can exceed.
    let limit = request.filter(|request| !request.is_zero());
    if let (Some(limit), Some(backend)) = (limit, backend_request)
        && backend > limit
    {
        let message = "is longer than request, which ends first; make it shorter";
        return Err(Refusal::new(format!("{field}.backendRequest"), "UnsupportedValue", message));
    }
    Ok(Timeouts { request, backend_request })
}

fn note_unsupported(rule: &HttpRouteRules, field: &str, origin: &Origin, notes: &mut Vec<Note>) {
    let mut note = |name: &str, what: &str| {
        let message = format!("{what} is not supported yet, so requests are served without it; remove it");
        notes.push(Refusal::new(format!("{field}.{name}"), "UnsupportedValue", message).note(origin));
    };
    if rule.retry.is_some() {
        note("retry", "retrying");
    }
    if rule.session_persistence.is_some() {
        note("sessionPersistence", "session persistence");
    }
}
