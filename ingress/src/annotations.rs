//! The annotations of an Ingress that Cilium defines, and what each means without a cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::duration::parse_go;
use crate::report::{Effect, Report};
use crate::{Config, Mode};

const PREFIX: &str = "ingress.cilium.io/";
const OLD_PREFIX: &str = "io.cilium.ingress/";
/// Names that exist below [`OLD_PREFIX`] as well.
const WITH_OLD_NAME: [&str; 5] =
    ["loadbalancer-mode", "service-type", "insecure-node-port", "secure-node-port", "tls-passthrough"];
/// Names that shape the Kubernetes Service which a cluster makes for an Ingress.
const SERVICE_ONLY: [&str; 6] = [
    "service-type",
    "insecure-node-port",
    "secure-node-port",
    "loadbalancer-class",
    "service-external-traffic-policy",
    "host-listener-port",
];
const ADDRESS_PREFIX: &str = "lbipam.cilium.io/";
const ADDRESSES: [&str; 2] = ["lbipam.cilium.io/ips", "io.cilium/lb-ipam-ips"];

/// What the annotations of one Ingress ask for, defaults filled in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) force_https: bool,
    pub(crate) request_timeout: Option<Duration>,
    /// The annotation that asks for TLS passthrough, as a field path.
    pub(crate) tls_passthrough: Option<String>,
    /// Addresses asked for by name, sorted and unique.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Settings {
    /// Reads the annotations; a value that cannot be read is reported and its default used.
    pub(crate) fn read(annotations: &BTreeMap<String, String>, config: &Config, report: &mut Report) -> Self {
        report_unknown(annotations, report);
        let mut reader = Reader { annotations, report };
        let mode = reader
            .read("loadbalancer-mode", "dedicated or shared", |text| match text {
                "dedicated" => Some(Mode::Dedicated),
                "shared" => Some(Mode::Shared),
                _ => None,
            })
            .unwrap_or(config.default_mode);
        let switch = "enabled, disabled, true or false";
        let passthrough = reader.read("tls-passthrough", switch, parse_switch).unwrap_or(false);
        let tls_passthrough = passthrough.then(|| reader.field("tls-passthrough"));
        let force_https = reader.read("force-https", switch, parse_switch).unwrap_or(config.enforce_https);
        let request_timeout = reader
            .read("request-timeout", "a duration such as 30s or 1m30s", parse_go)
            .or(config.request_timeout);
        let addresses = read_addresses(annotations, mode, report);
        Self { mode, force_https, request_timeout, tls_passthrough, addresses }
    }
}

struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn read<T>(&mut self, name: &str, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let (key, text) = self.find(name)?;
        let value = parse(text);
        if value.is_none() {
            self.report.add(
                Effect::Warned,
                &field(key),
                "InvalidAnnotation",
                format!("{text:?} is not {expected}; the default is used until it is"),
            );
        }
        value
    }

    /// The annotation by its name of today, else by its old one.
    fn find(&self, name: &str) -> Option<(&String, &String)> {
        let current = self.annotations.get_key_value(&format!("{PREFIX}{name}"));
        let old = || self.annotations.get_key_value(&format!("{OLD_PREFIX}{name}"));
        current.or_else(|| if WITH_OLD_NAME.contains(&name) { old() } else { None })
    }

    fn field(&self, name: &str) -> String {
        self.find(name).map_or_else(String::new, |(key, _)| field(key))
    }
}

fn read_addresses(annotations: &BTreeMap<String, String>, mode: Mode, report: &mut Report) -> Vec<IpAddr> {
    let Some((key, text)) = ADDRESSES.iter().find_map(|name| annotations.get_key_value(*name)) else {
        return Vec::new();
    };
    if mode == Mode::Shared {
        report.add(
            Effect::Warned,
            &field(key),
            "NoEffect",
            "Ingresses in shared mode have their addresses in common; \
             set ingress.cilium.io/loadbalancer-mode to dedicated to ask for one's own"
                .to_owned(),
        );
        return Vec::new();
    }
    let mut addresses = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => report.add(
                Effect::Warned,
                &field(key),
                "InvalidAnnotation",
                format!("{part:?} is not an IP address; write addresses separated by commas"),
            ),
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn report_unknown(annotations: &BTreeMap<String, String>, report: &mut Report) {
    const EFFECTIVE: [&str; 4] = ["loadbalancer-mode", "tls-passthrough", "force-https", "request-timeout"];
    for key in annotations.keys() {
        if key.starts_with(ADDRESS_PREFIX) && !ADDRESSES.contains(&key.as_str()) {
            report.add(
                Effect::Warned,
                &field(key),
                "UnsupportedValue",
                "is not supported yet and has no effect; remove it".to_owned(),
            );
        }
        let (name, old) = match (key.strip_prefix(PREFIX), key.strip_prefix(OLD_PREFIX)) {
            (Some(name), _) => (name, false),
            (None, Some(name)) => (name, true),
            (None, None) => continue,
        };
        let known = (EFFECTIVE.contains(&name) || SERVICE_ONLY.contains(&name))
            && (!old || WITH_OLD_NAME.contains(&name));
        if !known {
            report.add(
                Effect::Warned,
                &field(key),
                "UnknownAnnotation",
                "no such annotation; remove it or correct its name".to_owned(),
            );
        } else if SERVICE_ONLY.contains(&name) {
            report.add(
                Effect::Told,
                &field(key),
                "NoEffect",
                "only shapes the Service that a cluster makes for the Ingress; there is none here".to_owned(),
            );
        }
    }
}

fn field(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}

/// `enabled`, `disabled`, and what Go's `strconv.ParseBool` takes.
fn parse_switch(text: &str) -> Option<bool> {
    match text {
        "enabled" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "disabled" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
