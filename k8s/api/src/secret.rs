//! Secrets, with bytes that do not print.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret as WireSecret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mesh_model::secret::SecretBytes;

/// A Secret. `Debug` shows a fingerprint in place of each value, and dropping it wipes the values.
#[derive(Clone, Debug, PartialEq)]
pub struct Secret {
    /// Name, labels and so on.
    pub metadata: ObjectMeta,
    /// `type`, `Opaque` when the object names none.
    pub type_: String,
    /// `data`, decoded from Base64, with `stringData` laid over it.
    pub data: BTreeMap<String, SecretBytes>,
}

impl Secret {
    /// `kubernetes.io/tls`: has `tls.crt` and `tls.key`.
    pub const TYPE_TLS: &str = "kubernetes.io/tls";

    /// Name of the certificate chain in a Secret of that type.
    pub const TLS_CERTIFICATE: &str = "tls.crt";

    /// Name of the private key in a Secret of that type.
    pub const TLS_KEY: &str = "tls.key";
}

impl From<WireSecret> for Secret {
    fn from(wire: WireSecret) -> Self {
        let mut data: BTreeMap<_, _> =
            wire.data.unwrap_or_default().into_iter().map(|(k, v)| (k, SecretBytes::new(v.0))).collect();
        for (key, text) in wire.string_data.unwrap_or_default() {
            data.insert(key, SecretBytes::new(text.into_bytes()));
        }
        let mut metadata = wire.metadata;
        // `kubectl apply` leaves the whole object, values included, in this annotation.
        if let Some(annotations) = &mut metadata.annotations {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        Self { metadata, type_: wire.type_.unwrap_or_else(|| "Opaque".to_owned()), data }
    }
}
