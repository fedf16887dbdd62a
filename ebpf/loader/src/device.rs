//! A network device, as far as attaching needs it.

use std::fmt;

/// What a device's packets start with, and who sends them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKind {
    /// An Ethernet header: physical, bridge.
    #[default]
    Ethernet,
    /// The IP header: TUN, IP tunnels.
    Ip,
    /// The host's side of a pod's veth: an Ethernet header, and what comes in is what the pod sends.
    Pod,
    /// A VXLAN device whose packets say themselves which node they go to (`external`).
    Tunnel,
}

/// A device of the calling thread's network namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Name.
    pub name: String,
    /// What its packets start with, and who sends them.
    pub kind: DeviceKind,
}

impl Device {
    /// A device whose packets start with an Ethernet header.
    pub fn ethernet(name: impl Into<String>) -> Self {
        Self { name: name.into(), kind: DeviceKind::Ethernet }
    }

    /// The VXLAN device towards other nodes.
    pub fn tunnel(name: impl Into<String>) -> Self {
        Self { name: name.into(), kind: DeviceKind::Tunnel }
    }

    /// The host's side of a pod's veth.
    pub fn pod(name: impl Into<String>) -> Self {
        Self { name: name.into(), kind: DeviceKind::Pod }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
