//! One route: what it matches, and its action and headers.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_xds_proto::route::{self, route::Action as ActionMessage, route_match::PathSpecifier};

use super::answer::{direct_response, redirect};
use super::forward::forward;
use crate::check::{At, Checked, fields};
use crate::headers::HeaderMutations;
use crate::pattern::full_match;
use crate::route::Route;
use crate::route::action::{Action, RetryPolicy};
use crate::route::conditions::Conditions;
use crate::route::paths::PathMatch;

pub(super) fn one_route(
    message: &route::Route,
    host_retry: Option<&RetryPolicy>,
    largest_body: usize,
    clusters: &mut BTreeSet<Arc<str>>,
    at: At<'_>,
) -> Checked<Route> {
    fields!(message, at => route::Route {
        take: name, r#match, request_headers_to_add, request_headers_to_remove, response_headers_to_add,
            response_headers_to_remove, action;
        ignore: metadata, decorator, stat_prefix, tracing;
        refuse: typed_per_filter_config, per_request_buffer_limit_bytes, request_body_buffer_limit,
            route_specifiers
    });
    let at_match = at.field("match");
    let (path, conditions) =
        route_match(r#match.as_ref().ok_or_else(|| at_match.refuse("missing"))?, at_match)?;
    let action = match action {
        Some(ActionMessage::Route(message)) => {
            Action::Forward(Box::new(forward(message, &path, host_retry, clusters, at.field("route"))?))
        }
        Some(ActionMessage::Redirect(message)) => {
            Action::Redirect(Box::new(redirect(message, &path, at.field("redirect"))?))
        }
        Some(ActionMessage::DirectResponse(message)) => {
            Action::Respond(direct_response(message, largest_body, at.field("direct_response"))?)
        }
        Some(ActionMessage::FilterAction(_)) => {
            return Err(at.field("filter_action").refuse("not supported by this proxy"));
        }
        Some(ActionMessage::NonForwardingAction(_)) => {
            return Err(at.field("non_forwarding_action").refuse("not supported by this proxy"));
        }
        None => return Err(at.field("action").refuse("one of route, redirect or direct_response is needed")),
    };
    Ok(Route {
        name: name.as_str().into(),
        action,
        path,
        conditions,
        request_headers: HeaderMutations::compile(
            request_headers_to_add,
            at.field("request_headers_to_add"),
            request_headers_to_remove,
            at.field("request_headers_to_remove"),
        )?,
        response_headers: HeaderMutations::compile(
            response_headers_to_add,
            at.field("response_headers_to_add"),
            response_headers_to_remove,
            at.field("response_headers_to_remove"),
        )?,
    })
}

fn route_match(message: &route::RouteMatch, at: At<'_>) -> Checked<(PathMatch, Conditions)> {
    fields!(message, at => route::RouteMatch {
        take: case_sensitive, runtime_fraction, headers, query_parameters, grpc, path_specifier;
        ignore: ;
        refuse: cookies, tls_context, dynamic_metadata, filter_state
    });
    let path = match path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => PathMatch::Prefix(prefix.as_str().into()),
        Some(PathSpecifier::Path(path)) => PathMatch::Exact(path.as_str().into()),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['?', '#']) {
                return Err(at
                    .field("path_separated_prefix")
                    .refuse("must begin with a slash, not end with one, and hold no ? or #"));
            }
            PathMatch::SeparatedPrefix(prefix.as_str().into())
        }
        Some(PathSpecifier::SafeRegex(regex)) => PathMatch::Regex(full_match(regex, at.field("safe_regex"))?),
        Some(PathSpecifier::ConnectMatcher(_)) => {
            return Err(at.field("connect_matcher").refuse("not supported by this proxy"));
        }
        Some(PathSpecifier::PathMatchPolicy(_)) => {
            return Err(at.field("path_match_policy").refuse("not supported by this proxy"));
        }
        None => return Err(at.refuse("one of prefix, path, path_separated_prefix or safe_regex is needed")),
    };
    let ignore_case = case_sensitive.as_ref().is_some_and(|sensitive| !sensitive.value);
    let path = if ignore_case && !matches!(path, PathMatch::Regex(_)) {
        PathMatch::IgnoreCase(Box::new(path))
    } else {
        path
    };
    let fraction = match runtime_fraction {
        None => None,
        Some(fraction) => Some(per_million(fraction, at.field("runtime_fraction"))?),
    };
    Ok((path, Conditions::compile(headers, query_parameters, grpc.is_some(), fraction, at)?))
}

fn per_million(message: &mesh_xds_proto::core::RuntimeFractionalPercent, at: At<'_>) -> Checked<u32> {
    use mesh_xds_proto::envoy_type::fractional_percent::DenominatorType;
    let Some(value) = &message.default_value else { return Err(at.field("default_value").refuse("missing")) };
    let scale = match DenominatorType::try_from(value.denominator) {
        Ok(DenominatorType::Hundred) => 10_000,
        Ok(DenominatorType::TenThousand) => 100,
        Ok(DenominatorType::Million) => 1,
        Err(_) => return Err(at.field("default_value").field("denominator").refuse("unknown")),
    };
    Ok(value.numerator.saturating_mul(scale))
}
