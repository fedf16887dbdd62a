//! RouteConfiguration to [`RouteTable`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use mesh_xds_proto::route::{
    self,
    redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
    route::Action as ActionMessage,
    route_action::{ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier},
    route_match::PathSpecifier,
    weighted_cluster::{self, cluster_weight},
};
use mesh_xds_proto::{Message, take_entries};

use super::action::{
    Action, ClusterChoice, DirectResponse, Forward, PathChange, Redirect, RetryOn, RetryPolicy,
    WeightedCluster,
};
use super::conditions::Conditions;
use super::hosts::HostIndex;
use super::known::{Before, Known};
use super::paths::{PathIndex, PathMatch};
use super::{Route, RouteTable, VirtualHost};
use crate::address::inline;
use crate::check::{At, Checked, duration, fields, number, timeout};
use crate::headers::HeaderMutations;
use crate::pattern::{Substitution, full_match};

/// Envoy's limit on a fixed body.
const LARGEST_DIRECT_BODY: usize = 4096;

/// What Envoy gives a route without a timeout of its own.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// Field numbers of what a table and a virtual host are large by.
pub(super) const VIRTUAL_HOSTS: u32 = 2;
pub(super) const ROUTES: u32 = 3;

/// A table that was decoded with the message around it.
pub(crate) fn compile(message: &route::RouteConfiguration, at: At<'_>) -> Checked<RouteTable> {
    compile_encoded(&message.encode_to_vec(), None, at)
}

/// A table from its bytes. Virtual hosts and routes whose bytes are those of `before` are shared with it and
/// not looked at again: the cost is that of what has changed, and of an index for each changed virtual host.
pub(crate) fn compile_encoded(bytes: &[u8], before: Option<&Before<'_>>, at: At<'_>) -> Checked<RouteTable> {
    let (rest, encoded) = take_entries(bytes, VIRTUAL_HOSTS)
        .ok_or_else(|| at.refuse("malformed envoy.config.route.v3.RouteConfiguration"))?;
    let message = &at.decode_bytes::<route::RouteConfiguration>(&rest)?;
    fields!(message, at => route::RouteConfiguration {
        take: name, response_headers_to_add, response_headers_to_remove, request_headers_to_add,
            request_headers_to_remove, most_specific_header_mutations_wins, max_direct_response_body_size_bytes,
            ignore_port_in_host_matching;
        // Clusters are looked up for each request, so there is nothing to validate early.
        ignore: virtual_hosts, validate_clusters, metadata;
        refuse: vhds, internal_only_headers, cluster_specifier_plugins, request_mirror_policies, vhost_header,
            ignore_path_parameters_in_path_matching, typed_per_filter_config, route_specifiers
    });
    let largest_body =
        number(max_direct_response_body_size_bytes).map_or(LARGEST_DIRECT_BODY, |size| size as usize);
    let before = before.filter(|before| before.table.largest_body == largest_body);
    let mut clusters = BTreeSet::new();
    let known = before.map(|before| before.hosts(&encoded));
    let mut compiled = Vec::with_capacity(encoded.len());
    let at_hosts = at.field("virtual_hosts");
    for (index, bytes) in encoded.into_iter().enumerate() {
        let at_host = at_hosts.index(index);
        let host = match known.as_ref().and_then(|known| known.get(index, bytes)) {
            Some(same) => same.clone(),
            None => Arc::new(virtual_host(bytes, known.as_ref(), largest_body, &mut clusters, at_host)?),
        };
        compiled.push(host);
    }
    let same_hosts = before.and_then(|before| before.same_hosts(&compiled, *ignore_port_in_host_matching));
    let hosts = match same_hosts {
        Some(same) => same,
        None => Arc::new(host_index(&compiled, *ignore_port_in_host_matching, at_hosts)?),
    };
    Ok(RouteTable {
        name: name.as_str().into(),
        hosts,
        virtual_hosts: compiled,
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
        most_specific_wins: *most_specific_header_mutations_wins,
        largest_body,
    })
}

fn host_index(hosts: &[Arc<VirtualHost>], ignore_port: bool, at: At<'_>) -> Checked<HostIndex> {
    let mut index = HostIndex::new(ignore_port);
    for (number, host) in hosts.iter().enumerate() {
        let at_host = at.index(number);
        let at_domains = at_host.field("domains");
        for (position, domain) in host.domains.iter().enumerate() {
            index.insert(domain, number as u32, at_domains.index(position))?;
        }
    }
    Ok(index)
}

fn virtual_host(
    bytes: &[u8],
    hosts: Option<&Known<'_, VirtualHost>>,
    largest_body: usize,
    clusters: &mut BTreeSet<Arc<str>>,
    at: At<'_>,
) -> Checked<VirtualHost> {
    let (rest, encoded) = take_entries(bytes, ROUTES)
        .ok_or_else(|| at.refuse("malformed envoy.config.route.v3.VirtualHost"))?;
    let message = &at.decode_bytes::<route::VirtualHost>(&rest)?;
    fields!(message, at => route::VirtualHost {
        take: name, domains, request_headers_to_add, request_headers_to_remove, response_headers_to_add,
            response_headers_to_remove, retry_policy;
        ignore: routes, metadata;
        refuse: matcher, require_tls, virtual_clusters, rate_limits, cors, typed_per_filter_config,
            include_request_attempt_count, include_attempt_count_in_response, retry_policy_typed_config,
            hedge_policy, include_is_timeout_retry_header, per_request_buffer_limit_bytes,
            request_body_buffer_limit, request_mirror_policies, route_specifiers
    });
    if domains.is_empty() {
        return Err(at.field("domains").refuse("at least one domain is needed"));
    }
    let retry = retry_policy.as_ref().map(|policy| retry(policy, at.field("retry_policy"))).transpose()?;
    let known = hosts.and_then(|hosts| hosts.routes_of(name, &rest, &encoded));
    let mut compiled: Vec<Arc<Route>> = Vec::with_capacity(encoded.len());
    let at_routes = at.field("routes");
    for (index, bytes) in encoded.into_iter().enumerate() {
        compiled.push(match known.as_ref().and_then(|(_, routes)| routes.get(index, bytes)) {
            Some(same) => Arc::clone(same),
            None => {
                let at_route = at_routes.index(index);
                let message = at_route.decode_bytes::<route::Route>(bytes)?;
                Arc::new(one_route(&message, retry.as_ref(), largest_body, clusters, at_route)?)
            }
        });
    }
    Ok(VirtualHost {
        name: name.as_str().into(),
        domains: domains.iter().map(|domain| domain.as_str().into()).collect(),
        paths: PathIndex::build(compiled.iter().map(|route| &route.path)),
        routes: compiled,
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

fn one_route(
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

fn forward(
    message: &route::RouteAction,
    path: &PathMatch,
    host_retry: Option<&RetryPolicy>,
    clusters: &mut BTreeSet<Arc<str>>,
    at: At<'_>,
) -> Checked<Forward> {
    fields!(message, at => route::RouteAction {
        take: cluster_not_found_response_code, prefix_rewrite, regex_rewrite, timeout, idle_timeout, retry_policy,
            max_stream_duration, cluster_specifier, host_rewrite_specifier;
        // Priorities only choose between circuit breaker sets, of which clusters here have one.
        ignore: priority, internal_redirect_action;
        refuse: metadata_match, path_rewrite_policy, path_rewrite, append_x_forwarded_host, flush_timeout,
            early_data_policy, retry_policy_typed_config, request_mirror_policies, rate_limits,
            include_vh_rate_limits, hash_policy, cors, max_grpc_timeout, grpc_timeout_offset, upgrade_configs,
            internal_redirect_policy, max_internal_redirects, hedge_policy
    });
    let clusters = match cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => ClusterChoice::One(interned(name, clusters)),
        Some(ClusterSpecifier::WeightedClusters(message)) => {
            weighted(message, clusters, at.field("weighted_clusters"))?
        }
        Some(ClusterSpecifier::ClusterHeader(_)) => {
            return Err(at.field("cluster_header").refuse("not supported by this proxy"));
        }
        Some(
            ClusterSpecifier::ClusterSpecifierPlugin(_) | ClusterSpecifier::InlineClusterSpecifierPlugin(_),
        ) => {
            return Err(at.field("cluster_specifier_plugin").refuse("not supported by this proxy"));
        }
        None => return Err(at.refuse("one of cluster or weighted_clusters is needed")),
    };
    let mut auto_host = false;
    let host = match host_rewrite_specifier {
        None => None,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            Some(host_value(host, at.field("host_rewrite_literal"))?)
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(value)) => {
            auto_host = value.value;
            None
        }
        Some(_) => {
            return Err(at
                .field("host_rewrite_specifier")
                .refuse("only host_rewrite_literal and auto_host_rewrite"));
        }
    };
    let max_stream_duration = match max_stream_duration {
        None => None,
        Some(message) => {
            let at = at.field("max_stream_duration");
            fields!(message, at => route::route_action::MaxStreamDuration {
                take: max_stream_duration; ignore: ; refuse: grpc_timeout_header_max, grpc_timeout_header_offset
            });
            self::timeout(max_stream_duration, None, at.field("max_stream_duration"))?
        }
    };
    let retry = match retry_policy {
        Some(policy) => Some(retry(policy, at.field("retry_policy"))?),
        None => host_retry.cloned(),
    };
    let timeout = self::timeout(timeout, Some(DEFAULT_TIMEOUT), at.field("timeout"))?;
    let per_try = retry.as_ref().and_then(|retry| retry.per_try_timeout);
    let expected = [timeout, per_try].into_iter().flatten().min();
    Ok(Forward {
        clusters,
        cluster_not_found: match ClusterNotFoundResponseCode::try_from(*cluster_not_found_response_code) {
            Ok(ClusterNotFoundResponseCode::ServiceUnavailable) => StatusCode::SERVICE_UNAVAILABLE,
            Ok(ClusterNotFoundResponseCode::NotFound) => StatusCode::NOT_FOUND,
            Ok(ClusterNotFoundResponseCode::InternalServerError) => StatusCode::INTERNAL_SERVER_ERROR,
            Err(_) => return Err(at.field("cluster_not_found_response_code").refuse("unknown code")),
        },
        timeout,
        expected_timeout: expected
            .map(|limit| HeaderValue::from(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))),
        idle_timeout: match idle_timeout {
            None => None,
            some => Some(self::timeout(some, None, at.field("idle_timeout"))?),
        },
        max_stream_duration,
        path: path_change(prefix_rewrite, regex_rewrite.as_ref(), path, at)?,
        host,
        auto_host,
        retry,
    })
}

fn path_change(
    prefix: &str,
    pattern: Option<&mesh_xds_proto::matcher::RegexMatchAndSubstitute>,
    path: &PathMatch,
    at: At<'_>,
) -> Checked<PathChange> {
    let at_prefix = at.field("prefix_rewrite");
    match pattern {
        Some(_) if !prefix.is_empty() => Err(at_prefix.refuse("regex_rewrite is set as well")),
        Some(pattern) => Ok(PathChange::Pattern(Substitution::compile(pattern, at.field("regex_rewrite"))?)),
        None if prefix.is_empty() => Ok(PathChange::Keep),
        None => replaced_prefix(path, prefix, at_prefix),
    }
}

/// An exact path is its own prefix; an expression has none.
fn replaced_prefix(path: &PathMatch, replacement: &str, at: At<'_>) -> Checked<PathChange> {
    match path {
        PathMatch::Exact(prefix) | PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix) => {
            Ok(PathChange::Prefix { matched: prefix.len(), replacement: replacement.into() })
        }
        PathMatch::IgnoreCase(inner) => replaced_prefix(inner, replacement, at),
        PathMatch::Regex(_) => Err(at.refuse("needs a prefix or path match; use regex_rewrite")),
    }
}

fn weighted(
    message: &route::WeightedCluster,
    names: &mut BTreeSet<Arc<str>>,
    at: At<'_>,
) -> Checked<ClusterChoice> {
    fields!(message, at => route::WeightedCluster {
        take: clusters; ignore: total_weight, runtime_key_prefix; refuse: random_value_specifier
    });
    let at_clusters = at.field("clusters");
    let mut compiled = Vec::with_capacity(clusters.len());
    let mut total = 0_u32;
    for (index, message) in clusters.iter().enumerate() {
        let at = at_clusters.index(index);
        fields!(message, at => weighted_cluster::ClusterWeight {
            take: name, weight, request_headers_to_add, request_headers_to_remove, response_headers_to_add,
                response_headers_to_remove, host_rewrite_specifier;
            ignore: ;
            refuse: cluster_header, metadata_match, typed_per_filter_config
        });
        if name.is_empty() {
            return Err(at.field("name").refuse("missing"));
        }
        let weight = number(weight).unwrap_or_default();
        total = total
            .checked_add(weight)
            .ok_or_else(|| at.field("weight").refuse("the weights add up to more than 4294967295"))?;
        compiled.push(WeightedCluster {
            name: interned(name, names),
            weight,
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
            host: match host_rewrite_specifier {
                None => None,
                Some(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host)) => {
                    Some(host_value(host, at.field("host_rewrite_literal"))?)
                }
            },
        });
    }
    if total == 0 {
        return Err(at_clusters.refuse("the weights must add up to at least 1"));
    }
    Ok(ClusterChoice::Weighted { clusters: compiled, total })
}

/// Many routes name the same cluster.
fn interned(name: &str, names: &mut BTreeSet<Arc<str>>) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return known.clone();
    }
    let name: Arc<str> = name.into();
    names.insert(name.clone());
    name
}

fn host_value(host: &str, at: At<'_>) -> Checked<HeaderValue> {
    if host.parse::<http::uri::Authority>().is_err() {
        return Err(at.refuse(format!("{host:?} is not a host")));
    }
    HeaderValue::from_str(host).map_err(|_| at.refuse(format!("{host:?} is not a host")))
}

fn redirect(message: &route::RedirectAction, path: &PathMatch, at: At<'_>) -> Checked<Redirect> {
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

fn direct_response(
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

fn retry(message: &route::RetryPolicy, at: At<'_>) -> Checked<RetryPolicy> {
    fields!(message, at => route::RetryPolicy {
        take: retry_on, num_retries, per_try_timeout, retriable_status_codes;
        // Attempts follow each other at once; with the few that are allowed, pauses change little.
        ignore: retry_back_off, host_selection_retry_max_attempts, retry_host_predicate;
        refuse: per_try_idle_timeout, retry_priority, retry_options_predicates, rate_limited_retry_back_off,
            retriable_headers, retriable_request_headers, refresh_cluster_on_retry
    });
    let mut on = RetryOn::default();
    let at_on = at.field("retry_on");
    for cause in retry_on.split(',').map(str::trim).filter(|cause| !cause.is_empty()) {
        match cause {
            "connect-failure" => on.connect_failure = true,
            "reset" | "reset-before-request" | "refused-stream" => on.reset = true,
            "5xx" => (on.server_error, on.connect_failure, on.reset) = (true, true, true),
            "gateway-error" => (on.gateway_error, on.connect_failure, on.reset) = (true, true, true),
            "retriable-status-codes" => {
                for (index, status) in retriable_status_codes.iter().enumerate() {
                    let status =
                        u16::try_from(*status).ok().and_then(|status| StatusCode::from_u16(status).ok());
                    let at = at.field("retriable_status_codes");
                    on.statuses.push(status.ok_or_else(|| at.index(index).refuse("not a status code"))?);
                }
            }
            other => return Err(at_on.refuse(format!("{other:?} is not supported by this proxy"))),
        }
    }
    Ok(RetryPolicy {
        on,
        retries: number(num_retries).unwrap_or(1).min(10),
        per_try_timeout: match per_try_timeout {
            None => None,
            Some(value) => {
                Some(duration(value, at.field("per_try_timeout"))?).filter(|limit| !limit.is_zero())
            }
        },
    })
}
