//! Requests that are forwarded: where to, changed how, and when again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use mesh_xds_proto::route::{
    self,
    route_action::{ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier},
    weighted_cluster::{self, cluster_weight},
};

use super::rewrite::{host_value, replaced_prefix};
use crate::check::{At, Checked, duration, fields, number, timeout};
use crate::headers::HeaderMutations;
use crate::pattern::Substitution;
use crate::route::action::{ClusterChoice, Forward, PathChange, RetryOn, RetryPolicy, WeightedCluster};
use crate::route::paths::PathMatch;

/// What Envoy gives a route without a timeout of its own.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) fn forward(
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

pub(super) fn retry(message: &route::RetryPolicy, at: At<'_>) -> Checked<RetryPolicy> {
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
