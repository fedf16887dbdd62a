//! Next hops whose hardware addresses the kernel keeps resolved by itself, whatever becomes of the traffic to them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::netlink::{Netlink, NetlinkError};

/// Index of a device, and who is reached by it.
type Hop = (u32, IpAddr);

impl Netlink {
    /// Has the kernel keep the next hops towards these addresses resolved (`NTF_EXT_MANAGED`, Linux 5.16), and no
    /// others any more; how many there are. What no route leads to is left out.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn set_managed_neighbours(&self, towards: &[IpAddr]) -> Result<usize, NetlinkError> {
        let towards = towards.to_vec();
        self.call("ip neighbour replace ... managed extern_learn".to_owned(), async move |handle| {
            let mut wanted = BTreeSet::new();
            for address in towards {
                wanted.extend(next_hop(handle, address).await?);
            }
            let present = managed(handle).await?;
            for (hop, message) in &present {
                if !wanted.contains(hop) {
                    absent_is_fine(handle.neighbours().del(message.clone()).execute().await)?;
                }
            }
            let has = |hop: &Hop| present.iter().any(|(known, _)| known == hop);
            for (device, address) in wanted.iter().filter(|hop| !has(hop)) {
                let mut request = handle.neighbours().add(*device, *address).replace();
                let message = request.message_mut();
                message.header.flags = NeighbourFlags::ExtLearned;
                // The kernel finds the hardware address out: none is given, nor a state.
                message.header.state = netlink_packet_route::neighbour::NeighbourState::None;
                message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
                request.execute().await?;
            }
            Ok(wanted.len())
        })
    }
}

/// By whom packets to an address go first; none where no route leads there.
async fn next_hop(handle: &Handle, to: IpAddr) -> Result<Option<Hop>, rtnetlink::Error> {
    let bits = if to.is_ipv4() { 32 } else { 128 };
    let Ok(query) = RouteMessageBuilder::<IpAddr>::new().destination_prefix(to, bits) else {
        return Ok(None);
    };
    let mut routes = handle.route().get(query.build()).execute();
    match routes.try_next().await {
        Ok(route) => Ok(route.and_then(|route| hop_of(&route, to))),
        // No route to host, and the like.
        Err(rtnetlink::Error::NetlinkError(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn hop_of(route: &RouteMessage, to: IpAddr) -> Option<Hop> {
    let device = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(device) => Some(*device),
        _ => None,
    });
    let gateway = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => Some(IpAddr::from(*gateway)),
        RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => Some(IpAddr::from(*gateway)),
        _ => None,
    });
    Some((device?, gateway.unwrap_or(to)))
}

/// Those that are kept resolved for us.
async fn managed(handle: &Handle) -> Result<Vec<(Hop, NeighbourMessage)>, rtnetlink::Error> {
    let mut found = Vec::new();
    let mut neighbours = handle.neighbours().get().execute();
    while let Some(message) = neighbours.try_next().await? {
        let is_ours = message.header.flags.contains(NeighbourFlags::ExtLearned)
            && message.attributes.iter().any(|attribute| {
                matches!(attribute, NeighbourAttribute::ExtFlags(flags) if flags.contains(NeighbourExtFlags::Managed))
            });
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::from(*address)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::from(*address)),
            _ => None,
        });
        if let Some(address) = address.filter(|_| is_ours) {
            found.push(((message.header.ifindex, address), message));
        }
    }
    Ok(found)
}

fn absent_is_fine(outcome: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match outcome {
        Err(rtnetlink::Error::NetlinkError(error)) if [-2, -3, -19].contains(&error.raw_code()) => Ok(()),
        other => other,
    }
}
