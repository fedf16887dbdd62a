//! Requests to the kernel over one netlink socket, for callers that may block.

use std::sync::mpsc;
use std::thread;

use futures_util::TryStreamExt;
use netlink_packet_route::route::{RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::tables::{DesiredRoute, DesiredRule, Hop};

/// Protocol number written into our routes, so that only they are pruned. Not taken by any routing daemon
/// in the kernel's list.
pub(crate) const OUR_PROTOCOL: u8 = 109;
/// Index of the loopback device in every network namespace.
const LOOPBACK: u32 = 1;
/// Metric of routes to other nodes. A route that somebody else made for the same range, with any of the usual metrics,
/// is neither replaced nor overruled.
const NODE_METRIC: u32 = 2048;
/// Gateway of what goes into tunnels: nobody has it, and nobody is asked for it. One for all, so that the kernel notes
/// one neighbour and not one for each pod.
const NOBODY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The same for IPv6.
const NOBODY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// What the kernel says of a gateway that is not on the link (ENETUNREACH, EHOSTUNREACH).
const NOT_ON_LINK: [i32; 2] = [-101, -113];

/// Why the kernel did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket could not be opened.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] std::io::Error),
    /// The kernel refused a request.
    #[error("{what}: {reason}")]
    Refused {
        /// What was asked, with its facts.
        what: String,
        /// The kernel's answer.
        reason: String,
    },
    /// Another node is behind a router.
    #[error(
        "the pods of {node} ({destination}) cannot be routed: no link of this node leads to {gateway} without a router; \
         use tunnels, or let the routers know the pods' ranges and leave --auto-direct-node-routes out"
    )]
    NotOnLink {
        /// The node.
        node: String,
        /// Its address.
        gateway: IpAddr,
        /// Its pods.
        destination: ipnet::IpNet,
    },
    /// The thread that holds the socket is gone.
    #[error("the netlink thread has ended")]
    Ended,
}

type Job = Box<dyn FnOnce(&tokio::runtime::Runtime, &Handle) + Send>;

/// A thread with a netlink socket in the network namespace of whoever started it. Ends with its last clone.
#[derive(Clone)]
pub struct Netlink {
    jobs: mpsc::Sender<Job>,
}

impl Netlink {
    /// Opens the socket and starts the thread.
    pub fn start() -> Result<Self, NetlinkError> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(NetlinkError::Open)?;
        let handle = {
            let _context = runtime.enter();
            let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
            runtime.spawn(connection);
            handle
        };
        thread::Builder::new()
            .name("netlink".to_owned())
            .spawn(move || {
                while let Ok(job) = queue.recv() {
                    job(&runtime, &handle);
                }
            })
            .map_err(NetlinkError::Open)?;
        Ok(Self { jobs })
    }

    /// Runs one request on the thread and waits for its outcome.
    pub(crate) fn call<T, F>(&self, what: String, request: F) -> Result<T, NetlinkError>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&Handle) -> Result<T, rtnetlink::Error> + Send + 'static,
    {
        let (answer, outcome) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |runtime, handle| {
            let _ = answer.send(runtime.block_on(request(handle)));
        });
        self.jobs.send(job).map_err(|_| NetlinkError::Ended)?;
        let outcome = outcome.recv().map_err(|_| NetlinkError::Ended)?;
        outcome.map_err(|error| NetlinkError::Refused { what, reason: error.to_string() })
    }

    /// Adds a route or puts it in the place of the one with its key.
    pub(crate) fn set_route(&self, route: &DesiredRoute) -> Result<(), NetlinkError> {
        let message = route_message(route)?;
        let kind = match &route.hop {
            Hop::Here => "local ",
            Hop::Node { .. } | Hop::Tunnel { .. } => "",
        };
        let what = format!("ip route replace {kind}{} table {}", route.destination, route.table);
        let off_link = self.call(what, async move |handle| {
            match handle.route().add(message).replace().execute().await {
                Err(rtnetlink::Error::NetlinkError(error)) if NOT_ON_LINK.contains(&error.raw_code()) => {
                    Ok(true)
                }
                outcome => outcome.map(|()| false),
            }
        })?;
        match &route.hop {
            Hop::Node { name, gateway, .. } if off_link => Err(NetlinkError::NotOnLink {
                node: name.clone(),
                gateway: *gateway,
                destination: route.destination,
            }),
            _ => Ok(()),
        }
    }

    /// Deletes a route; no error when it is not there.
    pub(crate) fn delete_route(&self, message: RouteMessage) -> Result<(), NetlinkError> {
        let what = "ip route del".to_owned();
        self.call(what, async move |handle| absent_is_fine(handle.route().del(message).execute().await))
    }

    /// All routes of both families that carry our protocol number.
    pub(crate) fn our_routes(&self) -> Result<Vec<RouteMessage>, NetlinkError> {
        self.call("ip route show table all".to_owned(), async |handle| {
            let mut found = Vec::new();
            let families = [RouteMessageBuilder::<Ipv4Addr>::new().build(), v6_query()];
            for query in families {
                let mut routes = handle.route().get(query).execute();
                while let Some(route) = routes.try_next().await? {
                    if route.header.protocol == RouteProtocol::from(OUR_PROTOCOL) {
                        found.push(route);
                    }
                }
            }
            Ok(found)
        })
    }

    /// Adds a rule; no error when it is there.
    pub(crate) fn add_rule(&self, rule: &DesiredRule) -> Result<(), NetlinkError> {
        let what = format!("ip rule add priority {} lookup {}", rule.priority, rule.table);
        let message = rule_message(rule);
        self.call(what, async move |handle| {
            let mut request = handle.rule().add();
            *request.message_mut() = message;
            present_is_fine(request.execute().await)
        })
    }

    /// Deletes a rule; no error when it is not there.
    pub(crate) fn delete_rule(&self, message: RuleMessage) -> Result<(), NetlinkError> {
        let what = "ip rule del".to_owned();
        self.call(what, async move |handle| absent_is_fine(handle.rule().del(message).execute().await))
    }

    /// All rules of both families that carry our protocol number.
    pub(crate) fn our_rules(&self) -> Result<Vec<RuleMessage>, NetlinkError> {
        self.call("ip rule show".to_owned(), async |handle| {
            let mut found = Vec::new();
            for version in [IpVersion::V4, IpVersion::V6] {
                let mut rules = handle.rule().get(version).execute();
                while let Some(rule) = rules.try_next().await? {
                    let ours = RuleAttribute::Protocol(RouteProtocol::from(OUR_PROTOCOL));
                    if rule.attributes.contains(&ours) {
                        found.push(rule);
                    }
                }
            }
            Ok(found)
        })
    }
}

fn v6_query() -> RouteMessage {
    RouteMessageBuilder::<Ipv6Addr>::new().build()
}

fn absent_is_fine(outcome: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match outcome {
        Err(rtnetlink::Error::NetlinkError(error)) if [-2, -3].contains(&error.raw_code()) => Ok(()),
        other => other,
    }
}

fn present_is_fine(outcome: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match outcome {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -17 => Ok(()),
        other => other,
    }
}

/// The message of a route.
pub(crate) fn route_message(route: &DesiredRoute) -> Result<RouteMessage, NetlinkError> {
    let refused =
        |reason: String| NetlinkError::Refused { what: format!("route {}", route.destination), reason };
    let builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.destination.addr(), route.destination.prefix_len())
        .map_err(|error| refused(error.to_string()))?
        .table_id(route.table)
        .protocol(RouteProtocol::from(OUR_PROTOCOL));
    let builder = match &route.hop {
        Hop::Here => builder.output_interface(LOOPBACK).scope(RouteScope::Host).kind(RouteType::Local),
        Hop::Node { gateway, device, .. } => {
            let builder = builder
                .gateway(*gateway)
                .map_err(|error| refused(error.to_string()))?
                .priority(NODE_METRIC)
                .scope(RouteScope::Universe)
                .kind(RouteType::Unicast);
            match device {
                Some(device) => builder.output_interface(*device),
                None => builder,
            }
        }
        Hop::Tunnel { device } => {
            let nobody: IpAddr = match route.destination {
                ipnet::IpNet::V4(_) => NOBODY_V4.into(),
                ipnet::IpNet::V6(_) => NOBODY_V6.into(),
            };
            builder
                .gateway(nobody)
                .map_err(|error| refused(error.to_string()))?
                .onlink()
                .output_interface(*device)
                .priority(NODE_METRIC)
                .scope(RouteScope::Universe)
                .kind(RouteType::Unicast)
        }
    };
    let builder = match route.source {
        Some(source) => builder.pref_source(source).map_err(|error| refused(error.to_string()))?,
        None => builder,
    };
    Ok(builder.build())
}

/// The message of a rule.
pub(crate) fn rule_message(rule: &DesiredRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if rule.v4 {
        netlink_packet_route::AddressFamily::Inet
    } else {
        netlink_packet_route::AddressFamily::Inet6
    };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Protocol(RouteProtocol::from(OUR_PROTOCOL)),
    ];
    if let Some((mark, mask)) = rule.mark {
        message.attributes.push(RuleAttribute::FwMark(mark));
        message.attributes.push(RuleAttribute::FwMask(mask));
    }
    message
}
