//! Certificates that listeners use.

use std::collections::BTreeMap;

use mesh_model::NamespacedName;
use mesh_model::secret::{CertificateIndex, TlsCertificate};
use mesh_xds_proto::{Any, any, core, tls};

use super::names::secret_name;
use crate::resolve::EffectiveListener;

/// The certificates of a chain that can be used, in order of preference.
pub(super) fn usable<'a>(
    names: &'a [NamespacedName],
    certificates: &'a CertificateIndex,
) -> impl Iterator<Item = &'a TlsCertificate> {
    names.iter().filter_map(|name| certificates.get(name)?.as_deref().ok())
}

/// One Secret for each usable certificate of each chain. What no listener uses never leaves the agent.
pub(super) fn secrets(
    listeners: &[EffectiveListener],
    certificates: &CertificateIndex,
) -> BTreeMap<String, Any> {
    let chains = listeners.iter().flat_map(|listener| &listener.chains);
    let names = chains.filter_map(|chain| Some(chain.tls.as_ref()?.certificates.as_slice()));
    names
        .flat_map(|names| usable(names, certificates))
        .map(|certificate| (secret_name(&certificate.name), secret(certificate)))
        .collect()
}

fn secret(certificate: &TlsCertificate) -> Any {
    let inline = |bytes: &[u8]| {
        Some(core::DataSource {
            specifier: Some(core::data_source::Specifier::InlineBytes(bytes.to_vec())),
            ..Default::default()
        })
    };
    any(&tls::Secret {
        name: secret_name(&certificate.name),
        r#type: Some(tls::secret::Type::TlsCertificate(tls::TlsCertificate {
            certificate_chain: inline(certificate.chain_pem.expose()),
            private_key: inline(certificate.key_pem.expose()),
            ..Default::default()
        })),
    })
}
