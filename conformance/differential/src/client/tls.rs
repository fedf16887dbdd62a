//! A TLS client that takes any certificate, and says which it was.

use std::sync::Arc;

use anyhow::Context;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::observed::Response;
use crate::resources::Certificates;

/// Shakes hands. An empty `server_name` sends no SNI.
pub(super) async fn connect(
    stream: TcpStream,
    server_name: &str,
    protocol: &str,
    certificates: &Certificates,
) -> anyhow::Result<(TlsStream<TcpStream>, Response)> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    config.enable_sni = !server_name.is_empty();
    let name = if server_name.is_empty() { "no.sni" } else { server_name };
    let name = ServerName::try_from(name.to_owned())?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let session = stream.get_ref().1;
    let shown = session.peer_certificates().and_then(<[_]>::first).context("a certificate is shown")?;
    let secret = certificates.iter().find(|(_, certificate)| {
        CertificateDer::from_pem_slice(certificate.certificate_pem.as_bytes()).is_ok_and(|der| der == *shown)
    });
    let response = Response {
        certificate: secret.map(|(name, _)| name.clone()),
        alpn: session.alpn_protocol().map(|name| name.escape_ascii().to_string()),
        ..Response::default()
    };
    Ok((stream, response))
}

/// Which certificate is shown is what is compared, not whether it is good.
#[derive(Debug)]
struct Anything(Arc<CryptoProvider>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
