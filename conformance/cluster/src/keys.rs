//! Keys of a cluster: an authority, certificates, tokens and kubeconfigs, all made anew for each cluster.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

use crate::folder::{Folder, write_private};
use crate::spec::{Plan, Spec, node_name};

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// A part of the cluster that logs in with a token.
#[derive(Clone, Debug)]
struct Login {
    user: String,
    groups: &'static str,
    /// File of its kubeconfig.
    file: String,
}

/// Makes what is missing of keys, tokens and kubeconfigs.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn create(folder: &Folder, spec: &Spec) -> anyhow::Result<()> {
    let plan = spec.plan();
    let authority = Authority::new("millrace-cluster")?;
    authority.store(folder, "ca")?;
    let mut names = vec!["localhost".to_owned()];
    names.extend(
        ["", ".default", ".default.svc", ".default.svc.cluster.local"].map(|end| format!("kubernetes{end}")),
    );
    let mut addresses = plan.addresses(0);
    addresses.push(plan.api_service());
    authority.issue(folder, "apiserver", ("kube-apiserver", ""), &names, &addresses)?;
    authority.issue(folder, "apiserver-kubelet", ("kube-apiserver-kubelet", "system:masters"), &[], &[])?;
    for number in 1..=spec.nodes {
        let name = node_name(number);
        let user = format!("system:node:{name}");
        authority.issue(
            folder,
            &name,
            (&user, "system:nodes"),
            std::slice::from_ref(&name),
            &plan.addresses(number),
        )?;
    }
    // The API server speaks to the servers behind it in the name of its users by an authority of its own.
    let front = Authority::new("millrace-cluster-front-proxy")?;
    front.store(folder, "front-proxy-ca")?;
    front.issue(folder, "front-proxy", ("front-proxy-client", ""), &[], &[])?;
    let accounts = KeyPair::generate()?;
    write_private(&folder.key("service-accounts.key"), accounts.serialize_pem().as_bytes())?;
    write_private(&folder.key("service-accounts.pub"), accounts.public_key_pem().as_bytes())?;

    let mut tokens = String::new();
    for login in logins(spec) {
        let token = token()?;
        tokens.push_str(&format!("{token},{0},{0},\"{1}\"\n", login.user, login.groups));
        let kubeconfig = kubeconfig(plan, &authority.certificate, &login.user, &token);
        write_private(&folder.path(&login.file), &serde_json::to_vec_pretty(&kubeconfig)?)?;
    }
    write_private(&folder.key("tokens.csv"), tokens.as_bytes())
}

fn logins(spec: &Spec) -> Vec<Login> {
    let login =
        |user: &str, groups, file: &str| Login { user: user.to_owned(), groups, file: file.to_owned() };
    let mut logins = vec![
        login("admin", "system:masters", "kubeconfig"),
        login("system:kube-controller-manager", "", "keys/controller-manager.kubeconfig"),
        login("system:kube-scheduler", "", "keys/scheduler.kubeconfig"),
    ];
    for name in spec.node_names() {
        logins.push(login(
            &format!("system:node:{name}"),
            "system:nodes",
            &format!("keys/{name}.kubeconfig"),
        ));
    }
    logins
}

fn token() -> anyhow::Result<String> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    random.context("the kernel gives no random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// JSON, which every reader of YAML takes.
fn kubeconfig(plan: Plan, authority: &str, user: &str, token: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "millrace", "cluster": {
            "server": plan.api_server(),
            "certificate-authority-data": STANDARD.encode(authority),
        }}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "millrace", "context": {"cluster": "millrace", "user": user}}],
        "current-context": "millrace",
    })
}

/// Signs certificates.
struct Authority {
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, key: key.serialize_pem(), issuer: Issuer::new(params, key) })
    }

    fn store(&self, folder: &Folder, name: &str) -> anyhow::Result<()> {
        write_private(&folder.key(&format!("{name}.crt")), self.certificate.as_bytes())?;
        write_private(&folder.key(&format!("{name}.key")), self.key.as_bytes())
    }

    /// A certificate and its key, for a server and a client alike.
    fn issue(
        &self,
        folder: &Folder,
        file: &str,
        (name, group): (&str, &str),
        names: &[String],
        addresses: &[IpAddr],
    ) -> anyhow::Result<()> {
        let hosts: Vec<String> =
            names.iter().cloned().chain(addresses.iter().map(IpAddr::to_string)).collect();
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name.push(DnType::CommonName, name);
        if !group.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        write_private(&folder.key(&format!("{file}.crt")), certificate.pem().as_bytes())?;
        write_private(&folder.key(&format!("{file}.key")), key.serialize_pem().as_bytes())
    }
}
