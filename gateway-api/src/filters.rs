//! Filters of a rule.

use mesh_model::Hostname;
use mesh_model::l7::{HeaderMutation, PathMatch, PathRewrite, Redirect, Rewrite, RouteMatch};

use crate::api::{
    HttpRouteRulesFilters, HttpRouteRulesFiltersRequestRedirect,
    HttpRouteRulesFiltersRequestRedirectPathType, HttpRouteRulesFiltersRequestRedirectScheme,
    HttpRouteRulesFiltersType, HttpRouteRulesFiltersUrlRewrite, HttpRouteRulesFiltersUrlRewritePathType,
};
use crate::headers::modifier;
use crate::report::Refusal;

const REASON: &str = "UnsupportedValue";

/// What the filters of a rule add up to.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    pub(crate) request_headers: HeaderMutation,
    pub(crate) response_headers: HeaderMutation,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) rewrite: Rewrite,
}

/// Reads the filters of the rule at `field`. None is ignored: one that is not supported is an error.
pub(crate) fn read(
    given: &[HttpRouteRulesFilters],
    matches: &[RouteMatch],
    field: &str,
) -> Result<Filters, Refusal> {
    let mut read = Filters::default();
    let mut seen: Vec<&HttpRouteRulesFiltersType> = Vec::new();
    for (index, filter) in given.iter().enumerate() {
        let field = format!("{field}.filters[{index}]");
        if seen.contains(&&filter.r#type) {
            let message = format!("{} is there twice; put both into one", name(&filter.r#type));
            return Err(Refusal::new(field, REASON, message));
        }
        seen.push(&filter.r#type);
        match (
            &filter.r#type,
            &filter.request_header_modifier,
            &filter.response_header_modifier,
            &filter.request_redirect,
            &filter.url_rewrite,
        ) {
            (HttpRouteRulesFiltersType::RequestHeaderModifier, Some(given), ..) => {
                read.request_headers =
                    modifier!(RuleRequest, given).read(&format!("{field}.requestHeaderModifier"))?;
            }
            (HttpRouteRulesFiltersType::ResponseHeaderModifier, _, Some(given), ..) => {
                read.response_headers =
                    modifier!(Other, given).read(&format!("{field}.responseHeaderModifier"))?;
            }
            (HttpRouteRulesFiltersType::RequestRedirect, _, _, Some(given), _) => {
                read.redirect = Some(redirect(given, matches, &format!("{field}.requestRedirect"))?);
            }
            (HttpRouteRulesFiltersType::UrlRewrite, _, _, _, Some(given)) => {
                read.rewrite = rewrite(given, matches, &format!("{field}.urlRewrite"))?;
            }
            (
                kind @ (HttpRouteRulesFiltersType::RequestHeaderModifier
                | HttpRouteRulesFiltersType::ResponseHeaderModifier
                | HttpRouteRulesFiltersType::RequestRedirect
                | HttpRouteRulesFiltersType::UrlRewrite),
                ..,
            ) => {
                let message =
                    format!("the filter says type {} and has no settings of it; add them", name(kind));
                return Err(Refusal::new(field, REASON, message));
            }
            (kind, ..) => {
                let message = format!("filter {} is not supported yet; remove it", name(kind));
                return Err(Refusal::new(format!("{field}.type"), REASON, message));
            }
        }
    }
    if seen.contains(&&HttpRouteRulesFiltersType::RequestRedirect)
        && seen.contains(&&HttpRouteRulesFiltersType::UrlRewrite)
    {
        let message = "RequestRedirect and URLRewrite exclude each other; remove one";
        return Err(Refusal::new(format!("{field}.filters"), "IncompatibleFilters", message));
    }
    Ok(read)
}

fn redirect(
    given: &HttpRouteRulesFiltersRequestRedirect,
    matches: &[RouteMatch],
    field: &str,
) -> Result<Redirect, Refusal> {
    let scheme = given.scheme.as_ref().map(|scheme| match scheme {
        HttpRouteRulesFiltersRequestRedirectScheme::Http => "http".to_owned(),
        HttpRouteRulesFiltersRequestRedirectScheme::Https => "https".to_owned(),
    });
    let port = match given.port {
        None => None,
        Some(port) => match u16::try_from(port) {
            Ok(port) if port != 0 => Some(port),
            _ => {
                let message = format!("{port} is no port; use 1 to 65535");
                return Err(Refusal::new(format!("{field}.port"), REASON, message));
            }
        },
    };
    let status = match given.status_code {
        None => 302,
        Some(status @ (301 | 302 | 303 | 307 | 308)) => {
            u16::try_from(status).expect("one of five small numbers")
        }
        Some(status) => {
            let message = format!("{status} is no redirect; use 301, 302, 303, 307 or 308");
            return Err(Refusal::new(format!("{field}.statusCode"), REASON, message));
        }
    };
    let path = match &given.path {
        None => None,
        Some(path) => {
            let change = match path.r#type {
                HttpRouteRulesFiltersRequestRedirectPathType::ReplaceFullPath => {
                    Change::Full(path.replace_full_path.as_deref())
                }
                HttpRouteRulesFiltersRequestRedirectPathType::ReplacePrefixMatch => {
                    Change::Prefix(path.replace_prefix_match.as_deref())
                }
            };
            Some(path_change(change, matches, &format!("{field}.path"))?)
        }
    };
    let hostname = precise_hostname(given.hostname.as_deref(), field)?;
    Ok(Redirect { scheme, hostname, port, path, status })
}

fn rewrite(
    given: &HttpRouteRulesFiltersUrlRewrite,
    matches: &[RouteMatch],
    field: &str,
) -> Result<Rewrite, Refusal> {
    let path = match &given.path {
        None => None,
        Some(path) => {
            let change = match path.r#type {
                HttpRouteRulesFiltersUrlRewritePathType::ReplaceFullPath => {
                    Change::Full(path.replace_full_path.as_deref())
                }
                HttpRouteRulesFiltersUrlRewritePathType::ReplacePrefixMatch => {
                    Change::Prefix(path.replace_prefix_match.as_deref())
                }
            };
            Some(path_change(change, matches, &format!("{field}.path"))?)
        }
    };
    Ok(Rewrite { hostname: precise_hostname(given.hostname.as_deref(), field)?, path })
}

enum Change<'a> {
    Full(Option<&'a str>),
    Prefix(Option<&'a str>),
}

fn path_change(change: Change<'_>, matches: &[RouteMatch], field: &str) -> Result<PathRewrite, Refusal> {
    let (name, value) = match change {
        Change::Full(value) => ("replaceFullPath", value),
        Change::Prefix(value) => ("replacePrefixMatch", value),
    };
    let field = format!("{field}.{name}");
    let Some(value) = value else {
        return Err(Refusal::new(field, REASON, "is missing; add the new path"));
    };
    let empty_prefix = value.is_empty() && matches!(change, Change::Prefix(_));
    if !(value.starts_with('/') || empty_prefix) || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("{value:?} is no path; start it with '/' and escape what is not ASCII");
        return Err(Refusal::new(field, REASON, message));
    }
    match change {
        Change::Full(_) => Ok(PathRewrite::Full(value.to_owned())),
        Change::Prefix(_) => {
            if !matches.iter().all(|entry| matches!(entry.path, PathMatch::Prefix(_))) {
                let message =
                    "needs matches of type PathPrefix only, as there is no prefix to replace otherwise";
                return Err(Refusal::new(field, REASON, message));
            }
            // By whole elements "/new/" and "/new" are the same, and so are "/" and nothing.
            let trimmed = value.trim_end_matches('/');
            Ok(PathRewrite::Prefix(if trimmed.is_empty() { "/" } else { trimmed }.to_owned()))
        }
    }
}

fn precise_hostname(text: Option<&str>, field: &str) -> Result<Option<String>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    match text.parse::<Hostname>() {
        Ok(Hostname::Exact(name)) => Ok(Some(name)),
        _ => {
            let message = format!("{text:?} is not the name of one host; write one such as app.example.com");
            Err(Refusal::new(format!("{field}.hostname"), REASON, message))
        }
    }
}

fn name(kind: &HttpRouteRulesFiltersType) -> String {
    match kind {
        HttpRouteRulesFiltersType::UrlRewrite => "URLRewrite".to_owned(),
        HttpRouteRulesFiltersType::Cors => "CORS".to_owned(),
        other => format!("{other:?}"),
    }
}
