//! Matches of a rule.

use std::collections::BTreeSet;

use mesh_model::l7::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch, check_expression};

use crate::api::{
    HttpRouteRulesMatches, HttpRouteRulesMatchesHeadersType, HttpRouteRulesMatchesMethod,
    HttpRouteRulesMatchesPath, HttpRouteRulesMatchesPathType, HttpRouteRulesMatchesQueryParamsType,
};
use crate::headers::check_name;
use crate::report::Refusal;

const REASON: &str = "UnsupportedValue";

/// Reads the matches of a rule; none stands for every path.
pub(crate) fn read(given: &[HttpRouteRulesMatches], field: &str) -> Result<Vec<RouteMatch>, Refusal> {
    if given.is_empty() {
        return Ok(vec![RouteMatch::default()]);
    }
    given
        .iter()
        .enumerate()
        .map(|(index, entry)| read_one(entry, &format!("{field}.matches[{index}]")))
        .collect()
}

fn read_one(given: &HttpRouteRulesMatches, field: &str) -> Result<RouteMatch, Refusal> {
    let path = match &given.path {
        Some(path) => read_path(path, &format!("{field}.path"))?,
        None => PathMatch::default(),
    };
    let mut headers: Vec<HeaderMatch> = Vec::new();
    let mut names = BTreeSet::new();
    for (index, header) in given.headers.iter().flatten().enumerate() {
        let field = format!("{field}.headers[{index}]");
        let name = check_name(&header.name, &field)?;
        let regex = header.r#type == Some(HttpRouteRulesMatchesHeadersType::RegularExpression);
        let value = read_value(&header.value, regex, &field)?;
        // The specification: of several entries for one name, the first counts.
        if names.insert(name.clone()) {
            headers.push(HeaderMatch { name, value });
        }
    }
    let mut query: Vec<QueryMatch> = Vec::new();
    let mut names = BTreeSet::new();
    for (index, parameter) in given.query_params.iter().flatten().enumerate() {
        let field = format!("{field}.queryParams[{index}]");
        if parameter.name.is_empty() {
            return Err(Refusal::new(format!("{field}.name"), REASON, "is empty; name a query parameter"));
        }
        let regex = parameter.r#type == Some(HttpRouteRulesMatchesQueryParamsType::RegularExpression);
        let value = read_value(&parameter.value, regex, &field)?;
        if names.insert(parameter.name.clone()) {
            query.push(QueryMatch { name: parameter.name.clone(), value });
        }
    }
    let method = given.method.as_ref().map(|method| method_name(method).to_owned());
    Ok(RouteMatch { path, method, headers, query })
}

fn read_path(given: &HttpRouteRulesMatchesPath, field: &str) -> Result<PathMatch, Refusal> {
    let text = given.value.as_deref().unwrap_or("/");
    match given.r#type {
        Some(HttpRouteRulesMatchesPathType::Exact) => {
            check_path(text, field)?;
            Ok(PathMatch::Exact(text.to_owned()))
        }
        None | Some(HttpRouteRulesMatchesPathType::PathPrefix) => {
            check_path(text, field)?;
            let trimmed = text.trim_end_matches('/');
            Ok(PathMatch::Prefix(if trimmed.is_empty() { "/" } else { trimmed }.to_owned()))
        }
        Some(HttpRouteRulesMatchesPathType::RegularExpression) => {
            check_regex(text, field)?;
            Ok(PathMatch::Regex(text.to_owned()))
        }
    }
}

fn read_value(text: &str, regex: bool, field: &str) -> Result<ValueMatch, Refusal> {
    if regex {
        check_regex(text, field)?;
        return Ok(ValueMatch::Regex(text.to_owned()));
    }
    Ok(ValueMatch::Exact(text.to_owned()))
}

/// The rules that the API server has for paths of type `Exact` and `PathPrefix`.
fn check_path(path: &str, field: &str) -> Result<(), Refusal> {
    let error = |message: String| Err(Refusal::new(format!("{field}.value"), REASON, message));
    if !path.starts_with('/') {
        return error(format!("{path:?} does not start with '/'; write an absolute path"));
    }
    for part in ["//", "/./", "/../", "%2f", "%2F", "?", "#"] {
        if path.contains(part) {
            return error(format!("{path:?} contains {part:?}, which no normalised path does; take it out"));
        }
    }
    for end in ["/..", "/."] {
        if path.ends_with(end) {
            return error(format!("{path:?} ends in {end:?}, which no normalised path does; take it out"));
        }
    }
    Ok(())
}

fn check_regex(text: &str, field: &str) -> Result<(), Refusal> {
    check_expression(text).map_err(|reason| {
        let message =
            format!("{text:?} is not a regular expression to use ({reason}); mend it or use another type");
        Refusal::new(format!("{field}.value"), REASON, message)
    })
}

fn method_name(method: &HttpRouteRulesMatchesMethod) -> &'static str {
    match method {
        HttpRouteRulesMatchesMethod::Get => "GET",
        HttpRouteRulesMatchesMethod::Head => "HEAD",
        HttpRouteRulesMatchesMethod::Post => "POST",
        HttpRouteRulesMatchesMethod::Put => "PUT",
        HttpRouteRulesMatchesMethod::Delete => "DELETE",
        HttpRouteRulesMatchesMethod::Connect => "CONNECT",
        HttpRouteRulesMatchesMethod::Options => "OPTIONS",
        HttpRouteRulesMatchesMethod::Trace => "TRACE",
        HttpRouteRulesMatchesMethod::Patch => "PATCH",
    }
}
