//! Requests that the proxy answers itself: redirects and fixed responses.

use http::StatusCode;
use mesh_xds_proto::route::{
    self,
    redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
};

use super::rewrite::{host_value, replaced_prefix};
use crate::address::inline;
use crate::check::{At, Checked, fields};
use crate::pattern::Substitution;
use crate::route::action::{DirectResponse, PathChange, Redirect};
use crate::route::paths::PathMatch;

pub(super) fn redirect(message: &route::RedirectAction, path: &PathMatch, at: At<'_>) -> Checked<Redirect> {
    fields!(message, at => route::RedirectAction {
        take: host_redirect, port_redirect, response_code, strip_query, scheme_rewrite_specifier,
            path_rewrite_specifier;
        ignore: ; refuse:
    });
    let port = match port_redirect {
        0 => None,
        port => Some(u16::try_from(*port).map_err(|_| at.field("port_redirect").refuse("above 65535"))?),
    };
    Ok(Redirect {
        status: match RedirectResponseCode::try_from(*response_code) {
            Ok(RedirectResponseCode::MovedPermanently) => StatusCode::MOVED_PERMANENTLY,
            Ok(RedirectResponseCode::Found) => StatusCode::FOUND,
            Ok(RedirectResponseCode::SeeOther) => StatusCode::SEE_OTHER,
            Ok(RedirectResponseCode::TemporaryRedirect) => StatusCode::TEMPORARY_REDIRECT,
            Ok(RedirectResponseCode::PermanentRedirect) => StatusCode::PERMANENT_REDIRECT,
            Err(_) => return Err(at.field("response_code").refuse("unknown code")),
        },
        scheme: match scheme_rewrite_specifier {
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme))
                if matches!(scheme.as_str(), "http" | "https") =>
            {
                Some(scheme.as_str().into())
            }
            Some(SchemeRewriteSpecifier::SchemeRedirect(_)) => {
                return Err(at.field("scheme_redirect").refuse("only http and https"));
            }
            Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
        },
        host: if host_redirect.is_empty() {
            None
        } else {
            host_value(host_redirect, at.field("host_redirect"))?;
            Some(host_redirect.as_str().into())
        },
        port,
        path: match path_rewrite_specifier {
            None => PathChange::Keep,
            Some(PathRewriteSpecifier::PathRedirect(path)) if path.is_empty() => PathChange::Keep,
            Some(PathRewriteSpecifier::PathRedirect(path)) => PathChange::Whole(path.as_str().into()),
            Some(PathRewriteSpecifier::PrefixRewrite(prefix)) if prefix.is_empty() => PathChange::Keep,
            Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
                replaced_prefix(path, prefix, at.field("prefix_rewrite"))?
            }
            Some(PathRewriteSpecifier::RegexRewrite(pattern)) => {
                PathChange::Pattern(Substitution::compile(pattern, at.field("regex_rewrite"))?)
            }
            Some(PathRewriteSpecifier::PathRewrite(_)) => {
                return Err(at.field("path_rewrite").refuse("not supported by this proxy"));
            }
        },
        strip_query: *strip_query,
    })
}

pub(super) fn direct_response(
    message: &route::DirectResponseAction,
    largest_body: usize,
    at: At<'_>,
) -> Checked<DirectResponse> {
    fields!(message, at => route::DirectResponseAction { take: status, body; ignore: ; refuse: body_format });
    let status = u16::try_from(*status)
        .ok()
        .filter(|status| (200..600).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| at.field("status").refuse("must be from 200 to 599"))?;
    let body = match body {
        None => Vec::new(),
        Some(source) => inline(source, at.field("body"))?,
    };
    if body.len() > largest_body {
        return Err(at.field("body").refuse(format!("{} bytes, {largest_body} are allowed", body.len())));
    }
    Ok(DirectResponse { status, body: body.into() })
}
