//! Bodies on their way through: counted, watched, cleaned of what must not pass, never collected.

mod request;
mod response;
mod unread;

pub(crate) use self::request::{Progress, RequestBody};
pub(crate) use self::response::{BodyLimits, ResponseBody, UpstreamBody};
pub(crate) use self::unread::Unread;

use http::{HeaderMap, header};

use crate::codec::Broken;

/// Why a body that we stream breaks off. The codec resets or closes the message on it, so that the other side
/// cannot take a part for the whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The side that sends it broke off.
    #[error("the sender of the body broke off")]
    Broken(#[source] Broken),
    /// Fewer bytes than the head announced.
    #[error("the body ended {missing} bytes short of its content-length")]
    Short {
        /// What was still to come.
        missing: u64,
    },
    /// A clock ran out.
    #[error("the body took too long")]
    TimedOut,
}

/// Trailers may carry anything but what frames, routes or authenticates messages (RFC 9110, 6.5.1).
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    for name in [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::TRAILER,
        header::TE,
        header::CONNECTION,
        header::UPGRADE,
        header::HOST,
        header::AUTHORIZATION,
        header::SET_COOKIE,
        header::CONTENT_ENCODING,
        header::CONTENT_TYPE,
        header::CONTENT_RANGE,
    ] {
        trailers.remove(name);
    }
}
