//! The `tls` entries of an Ingress: for which hosts TLS ends here, and with which certificates.

use std::collections::BTreeMap;

use mesh_k8s_api::networking::IngressTLS;
use mesh_model::secret::CertificateIndex;
use mesh_model::{Hostname, NamespacedName};

use crate::host;
use crate::report::{Effect, Report};

/// TLS for one host.
#[derive(Debug)]
pub(crate) struct TlsHost {
    /// Field of the first entry that names the host.
    pub(crate) field: String,
    /// Secrets that can be used, in the order of the entries; none when all were refused.
    pub(crate) certificates: Vec<NamespacedName>,
}

/// Where the Secrets of one Ingress are looked for.
#[derive(Clone, Copy)]
pub(crate) struct Secrets<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) default: Option<&'a NamespacedName>,
    pub(crate) certificates: &'a CertificateIndex,
}

/// Hosts with TLS. An entry without hosts is for every host, as the API says; several entries for one host
/// give it several certificates.
pub(crate) fn read(
    entries: &[IngressTLS],
    secrets: Secrets<'_>,
    report: &mut Report,
) -> BTreeMap<Hostname, TlsHost> {
    let mut read: BTreeMap<Hostname, TlsHost> = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let field = format!("spec.tls[{index}]");
        let hosts = hosts(entry, &field, report);
        let certificate = certificate(entry, &field, secrets, report);
        for host in hosts {
            if let Some(name) = &certificate {
                check_name(name, &host, &field, secrets, report);
            }
            let tls = read
                .entry(host)
                .or_insert_with(|| TlsHost { field: field.clone(), certificates: Vec::new() });
            if let Some(name) = &certificate
                && !tls.certificates.contains(name)
            {
                tls.certificates.push(name.clone());
            }
        }
    }
    read
}

fn hosts(entry: &IngressTLS, field: &str, report: &mut Report) -> Vec<Hostname> {
    let named = entry.hosts.as_deref().unwrap_or_default();
    if named.is_empty() {
        return vec![Hostname::Any];
    }
    let mut hosts = Vec::new();
    for (index, text) in named.iter().enumerate() {
        match host::parse(text) {
            Ok(host) if !hosts.contains(&host) => hosts.push(host),
            Ok(_) => {}
            Err(message) => {
                report.add(Effect::Refused, &format!("{field}.hosts[{index}]"), "InvalidHost", message);
            }
        }
    }
    hosts
}

fn certificate(
    entry: &IngressTLS,
    field: &str,
    secrets: Secrets<'_>,
    report: &mut Report,
) -> Option<NamespacedName> {
    let field = format!("{field}.secretName");
    let mut refuse = |message: String| {
        report.add(Effect::Unresolved, &field, "InvalidCertificateRef", message);
        None
    };
    let name = match (entry.secret_name.as_deref().filter(|name| !name.is_empty()), secrets.default) {
        (Some(name), _) => NamespacedName::new(secrets.namespace, name),
        (None, Some(default)) => default.clone(),
        (None, None) => {
            return refuse(
                "is missing and there is no default certificate; name a Secret of type kubernetes.io/tls"
                    .to_owned(),
            );
        }
    };
    match secrets.certificates.get(&name) {
        Some(Ok(_)) => Some(name),
        Some(Err(why)) => refuse(format!("Secret {name} cannot be used: {why}")),
        None => refuse(format!("Secret {name} does not exist; create it or correct the name")),
    }
}

/// A certificate for other names is served nevertheless: the client decides what it trusts.
fn check_name(
    name: &NamespacedName,
    wanted: &Hostname,
    field: &str,
    secrets: Secrets<'_>,
    report: &mut Report,
) {
    let Some(Ok(certificate)) = secrets.certificates.get(name) else { return };
    if *wanted == Hostname::Any || certificate.dns_names.is_empty() {
        return;
    }
    let named = certificate.dns_names.iter().filter_map(|text| text.parse::<Hostname>().ok());
    if !named.into_iter().any(|named| host::covers(&named, wanted)) {
        report.add(
            Effect::Warned,
            &format!("{field}.secretName"),
            "CertificateNameMismatch",
            format!(
                "the certificate in Secret {name} is for {}, not for {wanted}; clients will refuse it",
                certificate.dns_names.join(", ")
            ),
        );
    }
}
