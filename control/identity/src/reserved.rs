//! Identities that no labels are looked at for.

/// An identity with a number of its own, Cilium's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reserved {
    /// This node.
    Host,
    /// Everything that is not known.
    World,
    /// An endpoint whose labels are not known yet.
    Init,
    /// Another node.
    RemoteNode,
}

impl Reserved {
    /// Its number.
    pub const fn id(self) -> u32 {
        match self {
            Self::Host => 1,
            Self::World => 2,
            Self::Init => 5,
            Self::RemoteNode => 6,
        }
    }

    /// Its only label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Host => "reserved:host",
            Self::World => "reserved:world",
            Self::Init => "reserved:init",
            Self::RemoteNode => "reserved:remote-node",
        }
    }
}
