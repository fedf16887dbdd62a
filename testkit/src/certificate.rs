//! Certificates for tests: an authority of its own for each.

use rcgen::{CertificateParams, DnType, KeyPair};

/// A certificate for some hosts, in PEM, and its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate, which signs itself: trusting it is trusting exactly this one.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl Certificate {
    /// A new one.
    pub fn for_hosts(hosts: &[&str]) -> anyhow::Result<Self> {
        let mut params =
            CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, *hosts.first().unwrap_or(&"test"));
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// A `kubernetes.io/tls` Secret with it, as YAML.
    pub fn secret(&self, namespace: &str, name: &str) -> String {
        let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
             type: kubernetes.io/tls\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
            indented(&self.certificate_pem),
            indented(&self.key_pem),
        )
    }
}
