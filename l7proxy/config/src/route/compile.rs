//! RouteConfiguration to [`RouteTable`].

mod answer;
mod forward;
mod rewrite;
mod route;

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_xds_proto::{Message, route as messages, take_entries};

use self::forward::retry;
use self::route::one_route;
use super::action::RetryPolicy;
use super::hosts::HostIndex;
use super::known::{Before, Change};
use super::routes::Routes;
use super::{Route, RouteTable, VirtualHost};
use crate::check::{At, Checked, fields, number};
use crate::headers::HeaderMutations;

/// Envoy's limit on a fixed body.
const LARGEST_DIRECT_BODY: usize = 4096;

/// Field numbers of what a table and a virtual host are large by.
pub(super) const VIRTUAL_HOSTS: u32 = 2;
pub(super) const ROUTES: u32 = 3;

/// A table that was decoded with the message around it.
pub(crate) fn compile(message: &messages::RouteConfiguration, at: At<'_>) -> Checked<RouteTable> {
    compile_encoded(&message.encode_to_vec(), None, at)
}

/// A table from its bytes. Virtual hosts and routes whose bytes are those of `before` are shared with it and
/// not looked at again: the cost is that of a comparison of bytes, and of what has changed (see [`Routes`]).
pub(crate) fn compile_encoded(bytes: &[u8], before: Option<&Before<'_>>, at: At<'_>) -> Checked<RouteTable> {
    let (rest, encoded) = take_entries(bytes, VIRTUAL_HOSTS)
        .ok_or_else(|| at.refuse("malformed envoy.config.route.v3.RouteConfiguration"))?;
    let message = &at.decode_bytes::<messages::RouteConfiguration>(&rest)?;
    fields!(message, at => messages::RouteConfiguration {
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
    let length = encoded.len();
    let change = match before {
        Some(before) => before.hosts(&encoded),
        None => Change::all(encoded),
    };
    let old = before.map_or(&[][..], Before::virtual_hosts);
    let mut compiled = Vec::with_capacity(length);
    compiled.extend_from_slice(&old[..change.old.start]);
    let at_hosts = at.field("virtual_hosts");
    for (index, bytes, known) in change.entries() {
        compiled.push(match known {
            Some(same) => same.clone(),
            None => {
                let at_host = at_hosts.index(index);
                Arc::new(virtual_host(bytes, &change, largest_body, &mut clusters, at_host)?)
            }
        });
    }
    compiled.extend_from_slice(&old[change.old.end..]);
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
    hosts: &Change<'_, '_, VirtualHost>,
    largest_body: usize,
    clusters: &mut BTreeSet<Arc<str>>,
    at: At<'_>,
) -> Checked<VirtualHost> {
    if let Some((host, change)) = hosts.routes_of(bytes) {
        let new = routes(&change, host.retry.as_ref(), largest_body, clusters, at)?;
        return Ok(host.with_routes(host.routes.spliced(change.old, new)));
    }
    let (rest, encoded) = take_entries(bytes, ROUTES)
        .ok_or_else(|| at.refuse("malformed envoy.config.route.v3.VirtualHost"))?;
    let message = &at.decode_bytes::<messages::VirtualHost>(&rest)?;
    fields!(message, at => messages::VirtualHost {
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
    let routes = routes(&Change::all(encoded), retry.as_ref(), largest_body, clusters, at)?;
    Ok(VirtualHost {
        name: name.as_str().into(),
        domains: domains.iter().map(|domain| domain.as_str().into()).collect(),
        routes: Routes::new(routes),
        retry,
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

/// The routes of a virtual host that are new to its list.
fn routes(
    change: &Change<'_, '_, Route>,
    host_retry: Option<&RetryPolicy>,
    largest_body: usize,
    clusters: &mut BTreeSet<Arc<str>>,
    at: At<'_>,
) -> Checked<Vec<Arc<Route>>> {
    let at_routes = at.field("routes");
    let mut compiled = Vec::with_capacity(change.entries().len());
    for (index, bytes, known) in change.entries() {
        compiled.push(match known {
            Some(same) => same.clone(),
            None => {
                let at_route = at_routes.index(index);
                let message = at_route.decode_bytes::<messages::Route>(bytes)?;
                Arc::new(one_route(&message, host_retry, largest_body, clusters, at_route)?)
            }
        });
    }
    Ok(compiled)
}
