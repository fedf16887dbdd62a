//! Compiled route configurations: from a request's head to a route, at a cost that does not grow with
//! the number of hosts or routes.
//!
//! Host by hash ([`hosts`]), path by hash and radix tree ([`paths`]), and the ordered rest; every
//! candidate carries its position, and the lowest position whose [`conditions`] hold wins. That is
//! Envoy's first match in order, which `tests.rs` checks against a linear scan.

mod action;
mod compile;
mod conditions;
mod hosts;
mod known;
mod paths;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, Method};

pub use self::action::{
    Action, ClusterChoice, DirectResponse, Forward, PathChange, Redirect, RetryOn, RetryPolicy,
    WeightedCluster,
};
pub(crate) use self::compile::{compile, compile_encoded};
use self::conditions::Conditions;
use self::hosts::HostIndex;
pub(crate) use self::known::Before;
use self::paths::PathMatch;
use self::routes::Routes;
use crate::headers::HeaderMutations;

/// The parts of a request that routing looks at. The path is canonical and carries no query.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// `host` or `:authority`, with its port if the client gave one.
    pub authority: &'a str,
    /// From the first slash up to the question mark.
    pub path: &'a str,
    /// After the question mark.
    pub query: Option<&'a str>,
    /// The method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// All other headers.
    pub headers: &'a HeaderMap,
}

/// One RouteConfiguration.
#[derive(Debug)]
pub struct RouteTable {
    pub(crate) name: Arc<str>,
    /// Shared with the table before while the domains stay.
    hosts: Arc<HostIndex>,
    /// Shared with earlier and later tables, as far as they are the same.
    virtual_hosts: Vec<Arc<VirtualHost>>,
    request_headers: HeaderMutations,
    response_headers: HeaderMutations,
    most_specific_wins: bool,
    /// The most bytes of a fixed body.
    largest_body: usize,
}

/// One virtual host with its routes in order.
#[derive(Debug)]
pub struct VirtualHost {
    /// For logs.
    pub name: Arc<str>,
    domains: Box<[Box<str>]>,
    /// Shared with earlier and later virtual hosts of this name, as far as they are the same.
    routes: Routes,
    /// That of routes without one of their own.
    retry: Option<RetryPolicy>,
    request_headers: HeaderMutations,
    response_headers: HeaderMutations,
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// For logs. May be empty.
    pub name: Arc<str>,
    /// What to do with the request.
    pub action: Action,
    path: PathMatch,
    conditions: Conditions,
    request_headers: HeaderMutations,
    response_headers: HeaderMutations,
}

/// A route with the levels above it.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'a> {
    table: &'a RouteTable,
    /// The virtual host.
    pub virtual_host: &'a VirtualHost,
    /// The route.
    pub route: &'a Route,
}

impl RouteTable {
    /// The first route, in configured order, that matches. Allocates nothing, but for a header that
    /// appears several times and is longer than 256 bytes, or an encoded query value under an expression.
    pub fn find(&self, head: &RequestHead<'_>) -> Option<Matched<'_>> {
        let virtual_host = &self.virtual_hosts[self.hosts.find(head.authority)? as usize];
        let route = virtual_host.routes.find(head.path, |route| route.conditions.hold(head))?;
        Some(Matched { table: self, virtual_host, route })
    }

    /// The names of all clusters that routes name. Cost: a look at each route.
    pub(crate) fn clusters(&self) -> BTreeSet<Arc<str>> {
        let routes = self.virtual_hosts.iter().flat_map(|host| host.routes.iter());
        routes
            .filter_map(|route| match &route.action {
                Action::Forward(forward) => Some(forward.clusters.names()),
                Action::Redirect(_) | Action::Respond(_) => None,
            })
            .flatten()
            .cloned()
            .collect()
    }

    /// The number of routes in all virtual hosts.
    pub fn route_count(&self) -> usize {
        self.virtual_hosts.iter().map(|host| host.routes.len()).sum()
    }
}

impl VirtualHost {
    /// The same with other routes.
    fn with_routes(&self, routes: Routes) -> Self {
        Self {
            name: self.name.clone(),
            domains: self.domains.clone(),
            routes,
            retry: self.retry.clone(),
            request_headers: self.request_headers.clone(),
            response_headers: self.response_headers.clone(),
        }
    }
}

impl Matched<'_> {
    /// Applies all levels' request header mutations. `chosen` is the weighted cluster's, if any.
    pub fn change_request(&self, chosen: Option<&HeaderMutations>, headers: &mut HeaderMap) {
        self.in_order(
            [&self.route.request_headers, &self.virtual_host.request_headers, &self.table.request_headers],
            chosen,
            headers,
        );
    }

    /// Applies all levels' response header mutations.
    pub fn change_response(&self, chosen: Option<&HeaderMutations>, headers: &mut HeaderMap) {
        self.in_order(
            [&self.route.response_headers, &self.virtual_host.response_headers, &self.table.response_headers],
            chosen,
            headers,
        );
    }

    /// Envoy goes from the most specific level to the least, so that the least specific has the last
    /// word, unless told otherwise.
    fn in_order(
        &self,
        levels: [&HeaderMutations; 3],
        chosen: Option<&HeaderMutations>,
        headers: &mut HeaderMap,
    ) {
        if self.table.most_specific_wins {
            levels.into_iter().rev().chain(chosen).for_each(|level| level.apply(headers));
        } else {
            chosen.into_iter().chain(levels).for_each(|level| level.apply(headers));
        }
    }
}
