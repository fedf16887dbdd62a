//! Certificates and TLS settings of filter chains.

use std::fmt;
use std::sync::{Arc, LazyLock};

use mesh_xds_proto::tls::{
    self, common_tls_context, downstream_tls_context, secret, tls_parameters::TlsProtocol,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use sha2::{Digest, Sha256};

use crate::address::{inline, over_ads};
use crate::check::{At, Checked, fields, flag};

/// aws-lc-rs with the post-quantum key exchange in front; named here, so that no other provider that some
/// crate may switch on can take its place.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
            aws_lc_rs::kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    })
});

/// A certificate with its key. Nothing prints the key.
pub(crate) struct Certificate {
    key: Arc<CertifiedKey>,
    /// SHA-256 of the leaf, in hexadecimal.
    pub(crate) fingerprint: String,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("sha256", &self.fingerprint).finish_non_exhaustive()
    }
}

/// The certificate in a Secret. Fails when chain and key do not belong together.
pub(crate) fn compile_secret(message: &tls::Secret, at: At<'_>) -> Checked<Certificate> {
    match &message.r#type {
        Some(secret::Type::TlsCertificate(certificate)) => {
            compile_certificate(certificate, at.field("tls_certificate"))
        }
        _ => Err(at.refuse("only tls_certificate")),
    }
}

fn compile_certificate(message: &tls::TlsCertificate, at: At<'_>) -> Checked<Certificate> {
    fields!(message, at => tls::TlsCertificate {
        take: certificate_chain, private_key;
        ignore: ;
        refuse: pkcs12, watched_directory, private_key_provider, password, ocsp_staple,
            signed_certificate_timestamp, tls_params
    });
    let (at_chain, at_key) = (at.field("certificate_chain"), at.field("private_key"));
    let chain = inline(certificate_chain.as_ref().ok_or_else(|| at_chain.refuse("missing"))?, at_chain)?;
    let key = inline(private_key.as_ref().ok_or_else(|| at_key.refuse("missing"))?, at_key)?;
    // The reasons below never quote input: a key pasted into the wrong field would be printed.
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .map_err(|_| at_chain.refuse("not a sequence of PEM certificates"))?;
    let leaf = chain.first().ok_or_else(|| at_chain.refuse("holds no PEM certificate"))?;
    let fingerprint = Sha256::digest(leaf).iter().map(|byte| format!("{byte:02x}")).collect();
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| at_key.refuse("holds no PEM private key"))?;
    let key = CertifiedKey::from_der(chain, key, &PROVIDER).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => at_key.refuse("does not belong to the certificate"),
        rustls::Error::InvalidCertificate(_) => at_chain.refuse("the first certificate cannot be parsed"),
        _ => at_key.refuse("a kind of key that is not supported"),
    })?;
    // `from_der` lets keys pass that it cannot compare.
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => return Err(at_key.refuse("does not belong to the certificate")),
    }
    Ok(Certificate { key: Arc::new(key), fingerprint })
}

/// The TLS side of a filter chain, before its secrets are known.
#[derive(Debug)]
pub(crate) struct TlsSettings {
    /// In configured order.
    pub(crate) secrets: Vec<Arc<str>>,
    inline: Vec<Arc<Certificate>>,
    alpn: Vec<Vec<u8>>,
    versions: Vec<&'static SupportedProtocolVersion>,
    tickets: bool,
}

impl TlsSettings {
    pub(crate) fn compile(message: &tls::DownstreamTlsContext, at: At<'_>) -> Checked<Self> {
        fields!(message, at => tls::DownstreamTlsContext {
            take: common_tls_context, require_client_certificate, session_ticket_keys_type;
            // Sessions are only resumed by ticket; the choice among certificates always looks at all.
            ignore: disable_stateful_session_resumption, full_scan_certs_on_sni_mismatch,
                prefer_client_ciphers, ocsp_staple_policy;
            refuse: require_sni, session_timeout
        });
        if flag(require_client_certificate) {
            return Err(at.field("require_client_certificate").refuse("not supported by this proxy"));
        }
        let tickets = match session_ticket_keys_type {
            None => true,
            Some(downstream_tls_context::SessionTicketKeysType::DisableStatelessSessionResumption(off)) => {
                !off
            }
            Some(_) => return Err(at.field("session_ticket_keys").refuse("not supported by this proxy")),
        };
        let at = at.field("common_tls_context");
        let common = common_tls_context.as_ref().ok_or_else(|| at.refuse("missing"))?;
        fields!(common, at => tls::CommonTlsContext {
            take: tls_params, tls_certificates, tls_certificate_sds_secret_configs, alpn_protocols,
                validation_context_type;
            ignore: ;
            refuse: tls_certificate_provider_instance, custom_tls_certificate_selector,
                tls_certificate_certificate_provider, tls_certificate_certificate_provider_instance,
                custom_handshaker, key_log
        });
        if let Some(context) = validation_context_type {
            let name = match context {
                common_tls_context::ValidationContextType::ValidationContext(_) => "validation_context",
                _ => "validation_context_sds_secret_config",
            };
            return Err(at.field(name).refuse("client certificates are not supported by this proxy"));
        }
        let at_sds = at.field("tls_certificate_sds_secret_configs");
        let mut secrets = Vec::new();
        for (index, config) in tls_certificate_sds_secret_configs.iter().enumerate() {
            let at = at_sds.index(index);
            over_ads(&config.sds_config, at.field("sds_config"))?;
            secrets.push(config.name.as_str().into());
        }
        let at_inline = at.field("tls_certificates");
        let mut inline = Vec::new();
        for (index, certificate) in tls_certificates.iter().enumerate() {
            inline.push(Arc::new(compile_certificate(certificate, at_inline.index(index))?));
        }
        if secrets.is_empty() && inline.is_empty() {
            return Err(at_sds.refuse("at least one certificate is needed"));
        }
        Ok(Self {
            secrets,
            inline,
            alpn: alpn_protocols.iter().map(|name| name.clone().into_bytes()).collect(),
            versions: versions(tls_params.as_ref(), at.field("tls_params"))?,
            tickets,
        })
    }

    /// The configuration for handshakes, with those certificates that are there; if none is, the name of the
    /// first secret. The same as `before` if that was made of the same.
    pub(crate) fn resolve(
        self: &Arc<Self>,
        secret: impl Fn(&str) -> Option<Arc<Certificate>>,
        before: Option<&Arc<TlsServer>>,
    ) -> Result<Arc<TlsServer>, TlsUnavailable> {
        let mut certificates = self.inline.clone();
        certificates.extend(self.secrets.iter().filter_map(|name| secret(name)));
        if let (true, Some(first)) = (certificates.is_empty(), self.secrets.first()) {
            return Err(TlsUnavailable::Secret(first.clone()));
        }
        if let Some(before) = before.filter(|before| before.is_made_of(self, &certificates)) {
            return Ok(before.clone());
        }
        let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
            .with_protocol_versions(&self.versions)
            .map_err(|_| TlsUnavailable::Provider)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver { certificates: certificates.clone() }));
        config.alpn_protocols.clone_from(&self.alpn);
        if self.tickets {
            // One ticketer a chain: a ticket from one chain must mean nothing to another.
            config.ticketer = aws_lc_rs::Ticketer::new().map_err(|_| TlsUnavailable::Provider)?;
        }
        Ok(Arc::new(TlsServer { settings: self.clone(), certificates, config: Arc::new(config) }))
    }
}

/// TLS of a filter chain, ready for handshakes, and what it was made of.
#[derive(Debug)]
pub struct TlsServer {
    settings: Arc<TlsSettings>,
    certificates: Vec<Arc<Certificate>>,
    config: Arc<ServerConfig>,
}

impl TlsServer {
    /// For handshakes.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    fn is_made_of(&self, settings: &TlsSettings, certificates: &[Arc<Certificate>]) -> bool {
        self.settings.alpn == settings.alpn
            && self.settings.versions == settings.versions
            && self.settings.tickets == settings.tickets
            && self.certificates.len() == certificates.len()
            && self.certificates.iter().zip(certificates).all(|(own, other)| Arc::ptr_eq(own, other))
    }
}

/// Why a chain cannot do handshakes now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsUnavailable {
    /// The secret has not arrived, or no version of it was good.
    #[error("no usable secret {0:?}")]
    Secret(Arc<str>),
    /// The cryptographic library refused.
    #[error("the cryptographic provider refused")]
    Provider,
}

fn versions(
    message: Option<&tls::TlsParameters>,
    at: At<'_>,
) -> Checked<Vec<&'static SupportedProtocolVersion>> {
    let both = vec![&rustls::version::TLS13, &rustls::version::TLS12];
    let Some(message) = message else { return Ok(both) };
    fields!(message, at => tls::TlsParameters {
        take: tls_minimum_protocol_version, tls_maximum_protocol_version;
        // Suites and curves of the provider are all sound; a list here could only leave some out.
        ignore: cipher_suites, ecdh_curves, signature_algorithms;
        refuse: compliance_policies
    });
    let at_minimum = at.field("tls_minimum_protocol_version");
    let minimum =
        TlsProtocol::try_from(*tls_minimum_protocol_version).map_err(|_| at_minimum.refuse("unknown"))?;
    let at_maximum = at.field("tls_maximum_protocol_version");
    match TlsProtocol::try_from(*tls_maximum_protocol_version) {
        Ok(TlsProtocol::TlsAuto | TlsProtocol::TlSv13) if minimum == TlsProtocol::TlSv13 => {
            Ok(vec![&rustls::version::TLS13])
        }
        Ok(TlsProtocol::TlsAuto | TlsProtocol::TlSv13) => Ok(both),
        Ok(TlsProtocol::TlSv12) if minimum != TlsProtocol::TlSv13 => Ok(vec![&rustls::version::TLS12]),
        Ok(TlsProtocol::TlSv12) => Err(at_maximum.refuse("below the minimum")),
        _ => Err(at_maximum.refuse("TLS 1.2 is the oldest version supported")),
    }
}

/// The first certificate valid for the name in the hello with a signature the client knows; else the first
/// whose signature it knows.
#[derive(Debug)]
struct Resolver {
    certificates: Vec<Arc<Certificate>>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let known = |certificate: &&Arc<Certificate>| {
            certificate.key.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = match (&name, self.certificates.len()) {
            (Some(name), 2..) => self.certificates.iter().filter(known).find(|certificate| {
                certificate.key.end_entity_cert().is_ok_and(|leaf| {
                    ParsedCertificate::try_from(leaf)
                        .is_ok_and(|leaf| rustls::client::verify_server_name(&leaf, name).is_ok())
                })
            }),
            _ => None,
        };
        named.or_else(|| self.certificates.iter().find(known)).map(|certificate| certificate.key.clone())
    }
}
