//! Pure: a frontend to the entries of the kernel's maps, identifiers left open.

use std::net::IpAddr;

use mesh_ebpf_abi::{Addr, BackendValue, Be16, Protocol, ServiceFlags, ServiceKey};
use mesh_model::service;

use crate::tables::{Frontend, FrontendKey, FrontendKind, Reach, Scope};

/// What the maps should hold for one frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LbMapEntries {
    /// Key of the service entry.
    pub key: ServiceKey,
    /// Its flags.
    pub flags: ServiceFlags,
    /// Backends in slot order.
    pub backends: Vec<BackendValue>,
}

/// Why a frontend has no entries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The kernel programs balance TCP and UDP.
    #[error("{address}:{port}: SCTP is not balanced; use the endpoints' own addresses")]
    Sctp {
        /// Address of the frontend.
        address: IpAddr,
        /// Port of the frontend.
        port: u16,
    },
    /// A service entry counts its backends in 16 bits.
    #[error("{owner}: {count} backends are more than 65535")]
    TooManyBackends {
        /// The Service.
        owner: String,
        /// Its backends.
        count: usize,
    },
}

/// The entries of a frontend.
pub fn plan_frontend(frontend: &Frontend) -> Result<LbMapEntries, PlanError> {
    let key = plan_key(&frontend.key)?;
    let (flags, backends) = match &frontend.kind {
        FrontendKind::Proxy { .. } => (ServiceFlags::L7_REDIRECT, Vec::new()),
        FrontendKind::Balanced { backends, reach } => {
            if u16::try_from(backends.len()).is_err() {
                let owner = frontend.owner.clone();
                return Err(PlanError::TooManyBackends { owner, count: backends.len() });
            }
            let protocol = plan_protocol(&frontend.key)?;
            let active = |(address, port): &(IpAddr, u16)| {
                BackendValue::active(Addr::from(*address), Be16::new(*port), protocol)
            };
            let flags = match reach {
                Reach::Cluster => ServiceFlags::NONE,
                Reach::Outside => ServiceFlags::EXTERNAL,
                Reach::OutsideApart => ServiceFlags::EXTERNAL.with(ServiceFlags::EXTERNAL_LOCAL),
            };
            (flags, backends.iter().map(active).collect())
        }
    };
    Ok(LbMapEntries { key, flags, backends })
}

/// The key of the service entry of a frontend.
pub(crate) fn plan_key(key: &FrontendKey) -> Result<ServiceKey, PlanError> {
    let everyone = ServiceKey::new(Addr::from(key.address), Be16::new(key.port), plan_protocol(key)?);
    Ok(match key.scope {
        Scope::Everyone => everyone,
        Scope::Outside => ServiceKey { scope: ServiceKey::OUTSIDE, ..everyone },
    })
}

fn plan_protocol(key: &FrontendKey) -> Result<Protocol, PlanError> {
    match key.protocol {
        service::Protocol::Tcp => Ok(Protocol::Tcp),
        service::Protocol::Udp => Ok(Protocol::Udp),
        service::Protocol::Sctp => Err(PlanError::Sctp { address: key.address, port: key.port }),
    }
}
