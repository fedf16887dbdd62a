//! The device that tunnels to other nodes begin and end at: one VXLAN device for all of them, whose packets say
//! themselves which node they go to (`external`).

use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressScope};
use netlink_packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVxlan};

use crate::netlink::{Netlink, NetlinkError};

/// Its name.
pub const TUNNEL_DEVICE: &str = "millrace_vxlan";

/// How it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// UDP port that VXLAN packets are sent to, the same on all nodes.
    pub port: u16,
    /// Largest packet before it is wrapped.
    pub mtu: u32,
    /// The node's addresses among its own pods', at most one of each family: what the node sends through a tunnel has
    /// them, so that answers come back by it.
    pub addresses: Vec<IpAddr>,
}

impl Netlink {
    /// Makes the device, or changes the one that is there as little as needed; its index. One of another port is made
    /// anew.
    ///
    /// # Errors
    /// What the kernel refuses; EADDRINUSE where something else has the port.
    pub fn set_tunnel(&self, tunnel: &Tunnel) -> Result<u32, NetlinkError> {
        let (what, tunnel) = (
            format!("ip link add {TUNNEL_DEVICE} type vxlan external dstport {}", tunnel.port),
            tunnel.clone(),
        );
        self.call(what, async move |handle| {
            let link = match find(handle).await? {
                Some(link) if has_port(&link, tunnel.port) => link,
                other => {
                    if let Some(other) = other {
                        handle.link().del(other.header.index).execute().await?;
                    }
                    handle.link().add(made(tunnel.port)).execute().await?;
                    find(handle).await?.ok_or(rtnetlink::Error::RequestFailed)?
                }
            };
            let index = link.header.index;
            let is_up =
                link.header.flags.contains(LinkFlags::Up) && link.header.flags.contains(LinkFlags::Noarp);
            if !is_up || !link.attributes.contains(&LinkAttribute::Mtu(tunnel.mtu)) {
                // Nobody answers ARP there: every packet goes to the node that its destination says.
                let change = LinkUnspec::new_with_index(index).mtu(tunnel.mtu).arp(false).up().build();
                handle.link().set(change).execute().await?;
            }
            set_addresses(handle, index, &tunnel.addresses).await?;
            Ok(index)
        })
    }

    /// Takes the device away; false if there was none.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn remove_tunnel(&self) -> Result<bool, NetlinkError> {
        self.call(format!("ip link del {TUNNEL_DEVICE}"), async move |handle| {
            let Some(link) = find(handle).await? else { return Ok(false) };
            handle.link().del(link.header.index).execute().await?;
            Ok(true)
        })
    }
}

fn made(port: u16) -> LinkMessage {
    LinkMessageBuilder::<LinkVxlan>::new(TUNNEL_DEVICE)
        .collect_metadata(true)
        .learning(false)
        .port(port)
        .build()
}

async fn find(handle: &Handle) -> Result<Option<LinkMessage>, rtnetlink::Error> {
    const ENODEV: i32 = -19;
    let mut found = handle.link().get().match_name(TUNNEL_DEVICE.to_owned()).execute();
    match found.try_next().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == ENODEV => Ok(None),
        other => other,
    }
}

/// Whether it is a device as we make it, with this port.
fn has_port(link: &LinkMessage, port: u16) -> bool {
    let infos = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let data = infos.into_iter().flatten().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
        _ => None,
    });
    data.is_some_and(|data| {
        data.contains(&InfoVxlan::Port(port)) && data.contains(&InfoVxlan::CollectMetadata(true))
    })
}

/// Gives the device these addresses and takes others of global scope from it.
async fn set_addresses(handle: &Handle, index: u32, wanted: &[IpAddr]) -> Result<(), rtnetlink::Error> {
    let mut present = Vec::new();
    let mut addresses = handle.address().get().set_link_index_filter(index).execute();
    while let Some(message) = addresses.try_next().await? {
        if message.header.scope != AddressScope::Universe {
            continue;
        }
        let own = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            AddressAttribute::Address(address) if message.header.family == AddressFamily::Inet6 => {
                Some(*address)
            }
            _ => None,
        });
        match own {
            Some(own) if wanted.contains(&own) => present.push(own),
            _ => handle.address().del(message).execute().await?,
        }
    }
    for address in wanted.iter().filter(|address| !present.contains(address)) {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        handle.address().add(index, *address, bits).execute().await?;
    }
    Ok(())
}
