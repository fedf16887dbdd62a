use std::sync::Arc;

use mesh_model::NamespacedName;
use serde_json::{Value, json};

use super::set;
use crate::certificate::Outcome;
use crate::{ingest, reingest};

fn pair(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn secret(certificate: &str, key: &str) -> Value {
    let data = json!({"tls.crt": certificate, "tls.key": key});
    json!({"kind": "Secret", "metadata": {"name": "cert"}, "type": "kubernetes.io/tls", "stringData": data})
}

fn read(secret: Value) -> Outcome {
    ingest(&set([secret])).certificates[&NamespacedName::new("shop", "cert")].clone()
}

#[track_caller]
fn refused(secret: Value, part: &str) {
    let message = read(secret).unwrap_err();
    assert!(message.contains(part), "{message}");
}

#[test]
fn a_pair_that_belongs_together_is_a_certificate() {
    let (certificate, key) = pair(&["b.example", "*.A.example"]);
    let read = read(secret(&certificate, &key)).unwrap();
    assert_eq!(read.dns_names, ["*.a.example", "b.example"]);
    assert_eq!(read.chain_pem.expose(), certificate.as_bytes());
    assert!(read.not_after > 0);
    assert!(!format!("{read:?}").contains("PRIVATE"));
}

#[test]
fn what_is_wrong_with_a_secret_is_said_without_its_bytes() {
    let (certificate, key) = pair(&["a.example"]);
    let (_, other) = pair(&["a.example"]);
    refused(secret(&certificate, &other), "tls.key is not the key of the first certificate");
    refused(secret("", &key), "it has no tls.crt");
    refused(secret("canary", &key), "tls.crt holds no certificates");
    refused(secret(&certificate, "canary"), "tls.key holds no private key");
    let broken = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n";
    refused(secret(broken, &key), "cannot be read");
    let broken = "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n";
    refused(secret(&certificate, broken), "is of a kind that is not supported");
    refused(json!({"kind": "Secret", "metadata": {"name": "cert"}}), "it has no tls.crt");
    assert!(!read(secret("canary", "canary")).unwrap_err().contains("canary"));
}

#[test]
fn an_unchanged_secret_is_not_read_again() {
    let (certificate, key) = pair(&["a.example"]);
    let before = set([secret(&certificate, &key)]);
    let old = ingest(&before);
    let mut after = before.clone();
    after.insert(super::object(super::service(json!({"ports": [{"port": 80}]}))));
    let new = reingest(&after, (&before, &old));
    let name = NamespacedName::new("shop", "cert");
    let certificate = |ingested: &crate::Ingested| Arc::clone(ingested.certificates[&name].as_ref().unwrap());
    assert!(Arc::ptr_eq(&certificate(&old), &certificate(&new)));
    assert_eq!(new, ingest(&after));
}
