//! The rows of this feature.

use std::net::IpAddr;

use mesh_model::service::Protocol;
use mesh_tables::Row;
use serde::Serialize;

/// What a connection is made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FrontendKey {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum FrontendKind {
    /// It goes to the proxy; the socket hooks leave it alone so that the packet hooks see it.
    Proxy {
        /// The proxy's listener that owns it.
        listener: String,
    },
    /// It is balanced in the kernel over these, all of the frontend's address family; sorted and unique.
    /// Empty: refused.
    Balanced {
        /// Address and port of each backend.
        backends: Vec<(IpAddr, u16)>,
    },
}

/// A desired entry of the kernel's service map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Frontend {
    /// Key.
    pub key: FrontendKey,
    /// The Service or listener it belongs to, for people.
    pub owner: String,
    /// What happens.
    pub kind: FrontendKind,
}

impl Row for Frontend {
    type Key = FrontendKey;
    const TABLE: &'static str = "frontends";
    fn key(&self) -> FrontendKey {
        self.key
    }
}
