//! Secrets to certificates.

use std::sync::Arc;

use mesh_k8s_api::{Resource, Secret, Stored};
use mesh_model::secret::{SecretBytes, TlsCertificate};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The certificate, or why the Secret cannot be used as one. No message holds any of the Secret's bytes.
pub(crate) type Outcome = Result<Arc<TlsCertificate>, String>;

/// Reads chain and key and checks that they belong together. Whether the certificate is valid now is not
/// checked: time is not this function's to know.
pub(crate) fn read(stored: &Arc<Stored<Secret>>) -> Outcome {
    let secret = &stored.object;
    let part = |key: &str| {
        secret.data.get(key).filter(|bytes| !bytes.expose().is_empty()).ok_or_else(|| {
            format!("it has no {key}: make it with `kubectl create secret tls`, type {}", Secret::TYPE_TLS)
        })
    };
    let (chain_pem, key_pem) = (part(Secret::TLS_CERTIFICATE)?, part(Secret::TLS_KEY)?);
    let chain = chain(chain_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.expose())
        .map_err(|_| format!("{} holds no private key in PEM: put one there", Secret::TLS_KEY))?;
    let key = any_supported_type(&key).map_err(|_| {
        format!("{} is of a kind that is not supported: use RSA, ECDSA or Ed25519", Secret::TLS_KEY)
    })?;
    let (dns_names, not_after) = leaf(&chain[0])?;
    CertifiedKey::new(chain, key).keys_match().map_err(|_| {
        format!(
            "{} is not the key of the first certificate in {}: put the pair that belongs together there",
            Secret::TLS_KEY,
            Secret::TLS_CERTIFICATE
        )
    })?;
    Ok(Arc::new(TlsCertificate {
        name: secret.namespaced_name(),
        origin: stored.origin(),
        chain_pem: chain_pem.clone(),
        key_pem: key_pem.clone(),
        dns_names,
        not_after,
    }))
}

/// The certificates of a PEM text: at least one.
fn chain(pem: &SecretBytes) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose()).collect();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
        format!("{} holds no certificates in PEM: put the chain there, leaf first", Secret::TLS_CERTIFICATE)
    })
}

/// DNS names of a certificate, sorted, and the end of its validity in seconds since the epoch.
fn leaf(der: &CertificateDer<'_>) -> Result<(Vec<String>, i64), String> {
    let (_, leaf) = X509Certificate::from_der(der).map_err(|_| {
        format!("the first certificate in {} cannot be read: issue it anew", Secret::TLS_CERTIFICATE)
    })?;
    let names = leaf.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|extension| &extension.value.general_names);
    let mut dns_names: Vec<String> = names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect();
    dns_names.sort();
    dns_names.dedup();
    Ok((dns_names, leaf.validity().not_after.timestamp()))
}
