//! Messages in and out of `Any`, and the names of the resource types.

use prost::{Message, Name};

use crate::{Any, descriptors};

/// A message that knows the URL it carries in an `Any`.
///
/// All of envoy-types' messages have it. The URL is `type.googleapis.com/` and the full name, as
/// xDS wants it; prost's own `Name::type_url` leaves the host out for messages it did not generate
/// with one.
pub trait TypeUrl: Message + Name + Default {
    /// `type.googleapis.com/envoy.config.listener.v3.Listener` and so on.
    fn type_url_of() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}

impl<M: Message + Name + Default> TypeUrl for M {}

/// The type URLs of the resources that the mesh serves over ADS.
pub mod type_urls {
    /// LDS.
    pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
    /// RDS.
    pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    /// CDS.
    pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    /// EDS.
    pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
    /// SDS.
    pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

    /// All five, in the order in which additions are sent: clusters before the
    /// routes that name them, listeners before the secrets and routes that a client asks for once it
    /// has read the listeners. Removals go in the reverse order.
    pub const IN_ORDER: [&str; 5] = [CLUSTER, ENDPOINT, LISTENER, SECRET, ROUTE];
}

/// Why an `Any` could not be opened as the wanted message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The `Any` holds another type.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// The full name of the wanted message.
        expected: String,
        /// The type URL that was there.
        found: String,
    },
    /// The bytes are no such message.
    #[error("malformed {name}")]
    Malformed {
        /// The full name of the message.
        name: String,
        /// What prost says.
        #[source]
        source: prost::DecodeError,
    },
}

/// Packs a message. Cost: one encoding.
#[must_use]
pub fn any<M: TypeUrl>(message: &M) -> Any {
    Any { type_url: M::type_url_of(), value: message.encode_to_vec() }
}

/// Unpacks a message, whose name (after the last `/` of the URL) must be `M`'s.
///
/// # Errors
/// Another type, or bytes that are not an `M`. Unknown fields are dropped, as prost does.
pub fn decode<M: TypeUrl>(any: &Any) -> Result<M, DecodeError> {
    if descriptors::full_name(&any.type_url) != M::full_name() {
        return Err(DecodeError::WrongType { expected: M::full_name(), found: any.type_url.clone() });
    }
    M::decode(any.value.as_slice()).map_err(|source| DecodeError::Malformed { name: M::full_name(), source })
}
