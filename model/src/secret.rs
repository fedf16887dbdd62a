//! Secrets. Their bytes are wiped when dropped and never printed: dumps, logs and goldens show a fingerprint.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::name::NamespacedName;
use crate::origin::Origin;

/// Secret bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves, for the one place that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// First 16 hex digits of the SHA-256 of the bytes.
    pub fn fingerprint(&self) -> String {
        Sha256::digest(&*self.0).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.fingerprint())
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("sha256:{}", self.fingerprint()))
    }
}

/// A certificate chain and its private key, checked to belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TlsCertificate {
    /// Namespace and name of the Secret.
    pub name: NamespacedName,
    /// The Secret it was read from.
    pub origin: Origin,
    /// PEM chain, leaf first.
    pub chain_pem: SecretBytes,
    /// PEM private key.
    pub key_pem: SecretBytes,
    /// DNS names the leaf is for, sorted.
    pub dns_names: Vec<String>,
    /// End of validity in seconds since the epoch.
    pub not_after: i64,
}

/// Every Secret that could be meant as a certificate, by name: the certificate, or why the Secret cannot be
/// used as one. A Secret that is not there does not exist.
pub type CertificateIndex = BTreeMap<NamespacedName, Result<Arc<TlsCertificate>, String>>;

#[cfg(test)]
mod tests {
    use super::SecretBytes;

    #[test]
    fn secret_bytes_print_as_a_fingerprint() {
        let secret = SecretBytes::new(b"canary-7f3a".to_vec());
        let text = format!("{secret:?}");
        assert!(text.starts_with("sha256:"));
        assert!(!text.contains("canary"));
        assert_ne!(secret.fingerprint(), SecretBytes::new(b"other".to_vec()).fingerprint());
    }
}
