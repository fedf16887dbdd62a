//! Matches on requests.

use mesh_model::l7::{PathMatch, RouteMatch, ValueMatch};
use mesh_xds_proto::matcher::{StringMatcher, string_matcher::MatchPattern};
use mesh_xds_proto::route::header_matcher::HeaderMatchSpecifier;
use mesh_xds_proto::route::query_parameter_matcher::QueryParameterMatchSpecifier;
use mesh_xds_proto::route::route_match::PathSpecifier;
use mesh_xds_proto::route::{self, HeaderMatcher, QueryParameterMatcher};

use super::messages::{regex, regex_escape};

/// A match. The method and headers keep their order: method first, then headers by name.
pub(super) fn route_match(matches: &RouteMatch) -> route::RouteMatch {
    let method = matches.method.as_ref().map(|method| header(":method", &ValueMatch::Exact(method.clone())));
    let headers = matches.headers.iter().map(|h| header(&h.name, &h.value));
    route::RouteMatch {
        path_specifier: Some(path(&matches.path)),
        headers: method.into_iter().chain(headers).collect(),
        query_parameters: matches
            .query
            .iter()
            .map(|query| QueryParameterMatcher {
                name: query.name.clone(),
                query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(text(
                    &query.value,
                ))),
            })
            .collect(),
        ..Default::default()
    }
}

/// Holds for hosts that lie more than one label below `suffix`, given that they lie below it.
pub(super) fn deeper_than_one_label(suffix: &str) -> HeaderMatcher {
    let one_label = format!("(?i)[^.]+\\.{}(:[0-9]+)?", regex_escape(suffix));
    HeaderMatcher { invert_match: true, ..header(":authority", &ValueMatch::Regex(one_label)) }
}

/// Every path.
pub(super) fn every_path() -> route::RouteMatch {
    route_match(&RouteMatch::default())
}

fn path(path: &PathMatch) -> PathSpecifier {
    match path {
        PathMatch::Exact(path) => PathSpecifier::Path(path.clone()),
        PathMatch::Prefix(prefix) if prefix == "/" => PathSpecifier::Prefix(prefix.clone()),
        PathMatch::Prefix(prefix) => PathSpecifier::PathSeparatedPrefix(prefix.clone()),
        PathMatch::Regex(pattern) => PathSpecifier::SafeRegex(regex(pattern)),
    }
}

fn header(name: &str, value: &ValueMatch) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(text(value))),
        ..Default::default()
    }
}

fn text(value: &ValueMatch) -> StringMatcher {
    let pattern = match value {
        ValueMatch::Exact(value) => MatchPattern::Exact(value.clone()),
        ValueMatch::Regex(pattern) => MatchPattern::SafeRegex(regex(pattern)),
    };
    StringMatcher { match_pattern: Some(pattern), ignore_case: false }
}
