//! The thin edge: rows to netlink.

use std::collections::BTreeSet;

use ipnet::IpNet;
use mesh_tables::{Row, Target, TargetError};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};

use crate::netlink::{Netlink, NetlinkError, rule_message};
use crate::tables::{DesiredRoute, DesiredRule};

/// Carries routes or rules to the kernel of the namespace its [`Netlink`] was started in.
pub struct NetlinkTarget {
    netlink: Netlink,
}

impl NetlinkTarget {
    /// A target behind that socket.
    pub fn new(netlink: Netlink) -> Self {
        Self { netlink }
    }
}

fn told<T>(outcome: Result<T, NetlinkError>) -> Result<T, TargetError> {
    outcome.map_err(|error| TargetError { message: error.to_string() })
}

impl Target<DesiredRoute> for NetlinkTarget {
    fn apply(&mut self, row: &DesiredRoute) -> Result<(), TargetError> {
        told(self.netlink.set_route(row))
    }

    fn remove(&mut self, key: &(u32, IpNet)) -> Result<(), TargetError> {
        for route in told(self.netlink.our_routes())? {
            if key_of(&route).as_ref() == Some(key) {
                told(self.netlink.delete_route(route))?;
            }
        }
        Ok(())
    }

    fn prune(&mut self, desired: &mut dyn Iterator<Item = &DesiredRoute>) -> Result<usize, TargetError> {
        let keys: BTreeSet<_> = desired.map(Row::key).collect();
        let mut count = 0;
        for route in told(self.netlink.our_routes())? {
            if key_of(&route).is_none_or(|key| !keys.contains(&key)) {
                told(self.netlink.delete_route(route))?;
                count += 1;
            }
        }
        Ok(count)
    }
}

impl Target<DesiredRule> for NetlinkTarget {
    fn apply(&mut self, row: &DesiredRule) -> Result<(), TargetError> {
        told(self.netlink.add_rule(row))
    }

    fn remove(&mut self, key: &(bool, u32)) -> Result<(), TargetError> {
        for rule in told(self.netlink.our_rules())? {
            if rule_key(&rule) == *key {
                told(self.netlink.delete_rule(rule))?;
            }
        }
        Ok(())
    }

    fn prune(&mut self, desired: &mut dyn Iterator<Item = &DesiredRule>) -> Result<usize, TargetError> {
        let wanted: Vec<RuleMessage> = desired.map(rule_message).collect();
        let mut count = 0;
        for rule in told(self.netlink.our_rules())? {
            let is_wanted = wanted.iter().any(|wanted| {
                wanted.header.family == rule.header.family
                    && wanted.attributes.iter().all(|attribute| rule.attributes.contains(attribute))
            });
            if !is_wanted {
                told(self.netlink.delete_rule(rule))?;
                count += 1;
            }
        }
        Ok(count)
    }
}

/// Takes out every route and rule of ours, for `mesh-agent cleanup`. Returns how many there were.
pub fn remove_all(netlink: &Netlink) -> Result<usize, NetlinkError> {
    let (rules, routes) = (netlink.our_rules()?, netlink.our_routes()?);
    let count = rules.len() + routes.len();
    for rule in rules {
        netlink.delete_rule(rule)?;
    }
    for route in routes {
        netlink.delete_route(route)?;
    }
    Ok(count)
}

fn key_of(route: &RouteMessage) -> Option<(u32, IpNet)> {
    let mut table = u32::from(route.header.table);
    let mut destination = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => destination = Some((*v4).into()),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => destination = Some((*v6).into()),
            _ => {}
        }
    }
    let unspecified: std::net::IpAddr = match route.header.address_family {
        netlink_packet_route::AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        _ => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let address = destination.unwrap_or(unspecified);
    let net = IpNet::new(address, route.header.destination_prefix_length).ok()?;
    Some((table, net))
}

fn rule_key(rule: &RuleMessage) -> (bool, u32) {
    let priority = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Priority(priority) => Some(*priority),
        _ => None,
    });
    let v4 = rule.header.family == netlink_packet_route::AddressFamily::Inet;
    (v4, priority.unwrap_or_default())
}
