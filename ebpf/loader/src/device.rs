//! A network device, as far as attaching needs it.

use std::fmt;

/// What a device's packets start with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKind {
    /// An Ethernet header: veth, physical, VXLAN, bridge.
    #[default]
    Ethernet,
    /// The IP header: TUN, IP tunnels.
    Ip,
}

/// A device of the calling thread's network namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Name.
    pub name: String,
    /// What its packets start with.
    pub kind: DeviceKind,
}

impl Device {
    /// A device whose packets start with an Ethernet header.
    pub fn ethernet(name: impl Into<String>) -> Self {
        Self { name: name.into(), kind: DeviceKind::Ethernet }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
