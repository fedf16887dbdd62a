//! What the runtime is answered: the result and the error of the CNI specification.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The result of ADD.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// Interfaces that were made, on both sides.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<Ip>,
    /// Routes inside of the pod.
    pub routes: Vec<Route>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address, six pairs of hexadecimal digits.
    pub mac: String,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// The network namespace it is in, as the runtime named it; empty for the node's own.
    pub sandbox: String,
}

/// An address of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// Address and prefix length.
    pub address: String,
    /// Where its packets leave to.
    pub gateway: IpAddr,
    /// Place of its interface in [`Success::interfaces`].
    pub interface: usize,
}

/// A route of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination and prefix length.
    pub dst: String,
    /// Next hop; none: on the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// Largest packet in bytes where it is not the interface's. Since 1.1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

impl Success {
    /// The document for a runtime that speaks this version of the specification.
    pub fn document(&self, version: &str) -> Value {
        let mut document = json!(self);
        document["cniVersion"] = Value::from(version);
        document["dns"] = json!({});
        let is_since = |first: &str| {
            let place = |of: &str| super::VERSIONS.iter().position(|known| *known == of);
            place(version) >= place(first)
        };
        // Before 1.0.0 an address said its family; before 1.1.0 nothing had a size.
        if !is_since("1.0.0") {
            for (ip, shown) in self.ips.iter().zip(document["ips"].as_array_mut().into_iter().flatten()) {
                shown["version"] = Value::from(if ip.gateway.is_ipv4() { "4" } else { "6" });
            }
        }
        if !is_since("1.1.0") {
            for list in ["interfaces", "routes"] {
                let entries = document[list].as_array_mut().into_iter().flatten();
                entries.filter_map(Value::as_object_mut).for_each(|entry| drop(entry.remove("mtu")));
            }
        }
        document
    }
}

/// Error codes: those of the specification below 100, ours from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u32", try_from = "u32")]
pub enum Code {
    /// The version of the configuration is not one of [`super::VERSIONS`].
    IncompatibleVersion = 1,
    /// An environment variable is missing or wrong.
    InvalidEnvironment = 4,
    /// Input or output failed.
    Io = 5,
    /// Standard input is no JSON, or no configuration.
    Decoding = 6,
    /// The configuration cannot be used.
    InvalidConfig = 7,
    /// Nothing is wrong but the moment: the same call may succeed later.
    TryAgainLater = 11,
    /// STATUS: ADD would fail.
    NotAvailable = 50,
    /// The node has no free address.
    Exhausted = 100,
    /// The kernel refused a part of the pod's network.
    Network = 101,
    /// CHECK: something is not as ADD left it.
    Changed = 102,
}

impl From<Code> for u32 {
    fn from(code: Code) -> Self {
        code as Self
    }
}

impl TryFrom<u32> for Code {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        use Code::{
            Changed, Decoding, Exhausted, IncompatibleVersion, InvalidConfig, InvalidEnvironment, Io,
            Network, NotAvailable, TryAgainLater,
        };
        let all = [
            IncompatibleVersion,
            InvalidEnvironment,
            Io,
            Decoding,
            InvalidConfig,
            TryAgainLater,
            NotAvailable,
            Exhausted,
            Network,
            Changed,
        ];
        all.into_iter()
            .find(|code| u32::from(*code) == number)
            .ok_or_else(|| format!("{number} is no code of ours"))
    }
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{msg}")]
pub struct Failure {
    /// What kind of thing.
    pub code: Code,
    /// One line: what, and what mends it. The kubelet shows it in the pod's events.
    pub msg: String,
    /// More of it, if there is more.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl Failure {
    /// A failure with one line.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// The document for a runtime that speaks this version of the specification.
    pub fn document(&self, version: &str) -> Value {
        let mut document = json!(self);
        document["cniVersion"] = Value::from(version);
        document
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use serde_json::json;

    use super::{Code, Failure, Interface, Ip, Route, Success};

    fn success() -> Success {
        let gateway = IpAddr::from(Ipv4Addr::new(169, 254, 1, 1));
        let interface = Interface {
            name: "eth0".to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            mtu: 1500,
            sandbox: "/n".to_owned(),
        };
        Success {
            interfaces: vec![interface],
            ips: vec![Ip { address: "10.0.0.2/32".to_owned(), gateway, interface: 0 }],
            routes: vec![Route { dst: "0.0.0.0/0".to_owned(), gw: Some(gateway), mtu: Some(1450) }],
        }
    }

    #[test]
    fn a_result_has_the_form_of_the_version_asked_for() {
        let newest = success().document("1.1.0");
        assert_eq!(newest["interfaces"][0]["mtu"], 1500);
        assert_eq!(newest["routes"][0], json!({"dst": "0.0.0.0/0", "gw": "169.254.1.1", "mtu": 1450}));
        let middle = success().document("1.0.0");
        assert_eq!(middle["interfaces"][0].get("mtu"), None);
        assert_eq!(middle["ips"][0].get("version"), None);
        let old = success().document("0.4.0");
        assert_eq!(old["ips"][0]["version"], "4");
        assert_eq!(old["cniVersion"], "0.4.0");
    }

    #[test]
    fn codes_come_back_as_they_went() {
        let failure = Failure::new(Code::Exhausted, "no free address");
        let document = failure.document("1.1.0");
        assert_eq!((&document["code"], &document["msg"]), (&json!(100), &json!("no free address")));
        assert_eq!(serde_json::from_value::<Failure>(json!(failure)).expect("it reads"), failure);
        assert!(serde_json::from_value::<Failure>(json!({"code": 3, "msg": ""})).is_err());
    }
}
