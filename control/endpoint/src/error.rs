//! What can go wrong.

use std::io;
use std::path::PathBuf;

/// Why an endpoint cannot be made, looked at or taken away.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The kernel refused a part.
    #[error("{what}: {reason}")]
    Refused {
        /// What was asked, as the ip command would be told.
        what: String,
        /// The kernel's answer.
        reason: io::Error,
    },
    /// Its record cannot be read, written or removed.
    #[error("the record {path} of an endpoint: {reason}")]
    Record {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Every number for an endpoint is taken.
    #[error("this node has {0} endpoints, the most it can have")]
    TooMany(usize),
    /// The container has this interface already.
    #[error("container {container_id} has an endpoint for its interface {interface} already")]
    Exists {
        /// The container.
        container_id: String,
        /// Its interface.
        interface: String,
    },
}

impl EndpointError {
    /// Whether what was asked about is not there.
    pub(crate) fn is_absent(&self) -> bool {
        let codes = [rustix::io::Errno::NODEV, rustix::io::Errno::NOENT, rustix::io::Errno::SRCH];
        match self {
            Self::Refused { reason, .. } => {
                codes.iter().any(|code| reason.raw_os_error() == Some(code.raw_os_error()))
            }
            _ => false,
        }
    }
}
