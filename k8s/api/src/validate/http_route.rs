//! HTTPRoutes.

use std::net::IpAddr;
use std::str::FromStr;

use crate::gateway::{
    Duration, HttpRoute, HttpRouteRules, HttpRouteRulesBackendRefs,
    HttpRouteRulesFiltersRequestRedirectPathType, HttpRouteRulesFiltersUrlRewritePathType,
    HttpRouteRulesMatches, HttpRouteRulesMatchesPathType,
};

use super::{Check, Issues, names};

const HEADER_FIX: &str = "write a header name such as `x-version`";

/// A filter has the fields of its type, and sound header names.
macro_rules! filter_fields {
    ($issues:ident, $at:ident, $filter:ident, $types:ident) => {
        use crate::gateway::$types as Type;
        let (field, there) = match $filter.r#type {
            Type::RequestHeaderModifier => {
                ("requestHeaderModifier", $filter.request_header_modifier.is_some())
            }
            Type::ResponseHeaderModifier => {
                ("responseHeaderModifier", $filter.response_header_modifier.is_some())
            }
            Type::RequestMirror => ("requestMirror", $filter.request_mirror.is_some()),
            Type::RequestRedirect => ("requestRedirect", $filter.request_redirect.is_some()),
            Type::UrlRewrite => ("urlRewrite", $filter.url_rewrite.is_some()),
            Type::ExtensionRef => ("extensionRef", $filter.extension_ref.is_some()),
            Type::Cors => ("cors", $filter.cors.is_some()),
            Type::ExternalAuth => ("externalAuth", $filter.external_auth.is_some()),
        };
        if !there {
            let fix = format!("add `{field}`, or write the type of the field that is there");
            $issues.error(
                format!("{}.{field}", $at),
                "is missing, though the filter's type asks for it",
                fix,
            );
        }
        let mut header = |modifier: &str, list: &str, index: usize, name: &str| {
            if !names::header_name(name) {
                let path = format!("{}.{modifier}.{list}[{index}]", $at);
                $issues.error(path, format!("{name:?} is no header name"), HEADER_FIX);
            }
        };
        if let Some(change) = &$filter.request_header_modifier {
            change
                .set
                .iter()
                .flatten()
                .enumerate()
                .for_each(|(i, h)| header("requestHeaderModifier", "set", i, &h.name));
            change
                .add
                .iter()
                .flatten()
                .enumerate()
                .for_each(|(i, h)| header("requestHeaderModifier", "add", i, &h.name));
            change
                .remove
                .iter()
                .flatten()
                .enumerate()
                .for_each(|(i, h)| header("requestHeaderModifier", "remove", i, h));
        }
        if let Some(change) = &$filter.response_header_modifier {
            change
                .set
                .iter()
                .flatten()
                .enumerate()
                .for_each(|(i, h)| header("responseHeaderModifier", "set", i, &h.name));
            change
                .add
                .iter()
                .flatten()
                .enumerate()
                .for_each(|(i, h)| header("responseHeaderModifier", "add", i, &h.name));
            change
                .remove
                .iter()
                .flatten()
                .enumerate()
                .for_each(|(i, h)| header("responseHeaderModifier", "remove", i, h));
        }
    };
}
impl Check for HttpRoute {
    fn check(&self, issues: &mut Issues<'_>) {
        for (index, host) in self.spec.hostnames.iter().flatten().enumerate() {
            let at = format!("spec.hostnames[{index}]");
            if host.parse::<IpAddr>().is_ok() || host.is_empty() {
                issues.error(
                    at,
                    format!("{host:?} is no host name"),
                    "write a name such as `shop.example.com`",
                );
            } else {
                names::host(issues, &at, host);
            }
        }
        for (index, parent) in self.spec.parent_refs.iter().flatten().enumerate() {
            let at = format!("spec.parentRefs[{index}]");
            if parent.name.is_empty() {
                issues.error(
                    format!("{at}.name"),
                    "is empty",
                    "name the Gateway or Service the route is for",
                );
            }
            if let Some(port) = parent.port {
                names::port(issues, &format!("{at}.port"), port);
            }
        }
        let rules = self.spec.rules.as_deref().unwrap_or_default();
        if rules.len() > 16 {
            issues.error("spec.rules", "has more than 16 entries", "spread them over several HTTPRoutes");
        }
        for (index, rule) in rules.iter().enumerate() {
            check_rule(issues, &format!("spec.rules[{index}]"), rule);
        }
    }
}

fn check_rule(issues: &mut Issues<'_>, at: &str, rule: &HttpRouteRules) {
    let matches = rule.matches.as_deref().unwrap_or_default();
    if matches.len() > 64 {
        issues.error(format!("{at}.matches"), "has more than 64 entries", "spread them over several rules");
    }
    for (index, rule_match) in matches.iter().enumerate() {
        check_match(issues, &format!("{at}.matches[{index}]"), rule_match);
    }
    check_filters(issues, at, rule);
    for (index, backend) in rule.backend_refs.iter().flatten().enumerate() {
        check_backend(issues, &format!("{at}.backendRefs[{index}]"), backend);
    }
    if let Some(timeouts) = &rule.timeouts {
        let mut read = |field: &str, text: &Option<String>| {
            let parsed = text.as_deref().map(Duration::from_str);
            if let Some(Err(_)) = parsed {
                let problem = format!("{:?} is no duration", text.as_deref().unwrap_or_default());
                issues.error(
                    format!("{at}.timeouts.{field}"),
                    problem,
                    "write one such as `500ms`, `10s` or `1m30s`",
                );
            }
            parsed.and_then(Result::ok)
        };
        let (request, backend) =
            (read("request", &timeouts.request), read("backendRequest", &timeouts.backend_request));
        if let (Some(request), Some(backend)) = (request, backend)
            && !request.is_zero()
            && backend.as_millis() > request.as_millis()
        {
            let problem = "is longer than timeouts.request";
            issues.error(format!("{at}.timeouts.backendRequest"), problem, "make it at most as long");
        }
    }
}

fn check_match(issues: &mut Issues<'_>, at: &str, rule_match: &HttpRouteRulesMatches) {
    if let Some(path) = &rule_match.path {
        let value = path.value.as_deref().unwrap_or("/");
        let regex = path.r#type == Some(HttpRouteRulesMatchesPathType::RegularExpression);
        if let (false, Err(problem)) = (regex, names::route_path(value)) {
            let fix = "write a path such as `/shop`";
            issues.error(format!("{at}.path.value"), format!("{value:?} {problem}"), fix);
        }
    }
    for (index, header) in rule_match.headers.iter().flatten().enumerate() {
        if !names::header_name(&header.name) {
            let problem = format!("{:?} is no header name", header.name);
            issues.error(format!("{at}.headers[{index}].name"), problem, HEADER_FIX);
        }
    }
    for (index, parameter) in rule_match.query_params.iter().flatten().enumerate() {
        if !names::header_name(&parameter.name) {
            let problem = format!("{:?} is no name of a query parameter", parameter.name);
            issues.error(
                format!("{at}.queryParams[{index}].name"),
                problem,
                "write its name without `?`, `&` and `=`",
            );
        }
    }
}

/// Rules that hold between the filters of a rule and what else the rule has.
fn check_filters(issues: &mut Issues<'_>, at: &str, rule: &HttpRouteRules) {
    let filters = rule.filters.as_deref().unwrap_or_default();
    let mut redirect = None;
    let mut rewrite = None;
    for (index, filter) in filters.iter().enumerate() {
        let at = format!("{at}.filters[{index}]");
        filter_fields!(issues, at, filter, HttpRouteRulesFiltersType);
        if let Some(request) = &filter.request_redirect {
            redirect = Some(at.clone());
            if let Some(code) =
                request.status_code.filter(|code| !matches!(code, 301 | 302 | 303 | 307 | 308))
            {
                let path = format!("{at}.requestRedirect.statusCode");
                issues.error(path, format!("{code} is no redirect"), "write 301, 302, 303, 307 or 308");
            }
            if let Some(port) = request.port {
                names::port(issues, &format!("{at}.requestRedirect.port"), port);
            }
            if let Some(host) = &request.hostname {
                names::host(issues, &format!("{at}.requestRedirect.hostname"), host);
            }
            let path = request.path.as_ref().map(|path| &path.r#type);
            if path == Some(&HttpRouteRulesFiltersRequestRedirectPathType::ReplacePrefixMatch) {
                needs_prefix(issues, &format!("{at}.requestRedirect.path.type"), rule);
            }
        }
        if let Some(request) = &filter.url_rewrite {
            rewrite = Some(at.clone());
            if let Some(host) = &request.hostname {
                names::host(issues, &format!("{at}.urlRewrite.hostname"), host);
            }
            let path = request.path.as_ref().map(|path| &path.r#type);
            if path == Some(&HttpRouteRulesFiltersUrlRewritePathType::ReplacePrefixMatch) {
                needs_prefix(issues, &format!("{at}.urlRewrite.path.type"), rule);
            }
        }
    }
    if let Some(redirect) = redirect {
        if rewrite.is_some() {
            issues.error(&redirect, "a rule cannot both redirect and rewrite", "remove one of the filters");
        }
        if rule.backend_refs.as_ref().is_some_and(|backends| !backends.is_empty()) {
            let problem = "cannot be there in a rule that redirects";
            issues.error(format!("{at}.backendRefs"), problem, "remove the backends or the redirect");
        }
    }
}

/// Replacing a prefix means something only where every match is of one.
fn needs_prefix(issues: &mut Issues<'_>, at: &str, rule: &HttpRouteRules) {
    let prefix = |m: &HttpRouteRulesMatches| {
        m.path
            .as_ref()
            .is_some_and(|path| matches!(path.r#type, None | Some(HttpRouteRulesMatchesPathType::PathPrefix)))
    };
    let matches = rule.matches.as_deref().unwrap_or_default();
    if matches.len() > 1 || !matches.iter().all(prefix) {
        let problem = "ReplacePrefixMatch needs exactly one match, and that of type PathPrefix";
        issues.error(at, problem, "make the match a PathPrefix, split the rule, or use ReplaceFullPath");
    }
}

fn check_backend(issues: &mut Issues<'_>, at: &str, backend: &HttpRouteRulesBackendRefs) {
    if backend.name.is_empty() {
        issues.error(format!("{at}.name"), "is empty", "name a Service");
    }
    let service = backend.kind.as_deref().unwrap_or("Service") == "Service"
        && backend.group.as_deref().unwrap_or_default().is_empty();
    match backend.port {
        Some(port) => names::port(issues, &format!("{at}.port"), port),
        None if service => issues.error(format!("{at}.port"), "is missing", "add a port of the Service"),
        None => {}
    }
    if let Some(weight) = backend.weight.filter(|weight| !(0..=1_000_000).contains(weight)) {
        let problem = format!("{weight} is out of range");
        issues.error(format!("{at}.weight"), problem, "write a number from 0 to 1000000");
    }
    for (index, filter) in backend.filters.iter().flatten().enumerate() {
        let at = format!("{at}.filters[{index}]");
        filter_fields!(issues, at, filter, HttpRouteRulesBackendRefsFiltersType);
    }
}
