//! What the runtime asks for.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `CNI_COMMAND`. VERSION is answered by the plugin alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Command {
    /// Give a network namespace an interface.
    Add,
    /// Take it away again, and what it had. No error when it is not there.
    Del,
    /// Is it still as ADD left it?
    Check,
    /// Take away what no attachment in the configuration names.
    Gc,
    /// Could ADD succeed now?
    Status,
}

impl Command {
    /// The command of this name, as in `CNI_COMMAND`.
    pub fn named(name: &str) -> Option<Self> {
        serde_json::from_value(Value::from(name)).ok()
    }

    /// Whether it comes with the descriptors of the pod's network namespace.
    pub fn enters(self) -> bool {
        matches!(self, Self::Add | Self::Check)
    }
}

/// One call of the plugin, as it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID`; empty for GC and STATUS.
    pub container_id: String,
    /// `CNI_IFNAME`; empty for GC and STATUS.
    pub interface: String,
    /// `CNI_NETNS`: a path in the runtime's mount namespace, for people. The namespace itself comes as a descriptor.
    pub netns: String,
    /// `CNI_ARGS`: `KEY=VALUE;...`. Kubernetes puts the pod's name there.
    pub arguments: String,
    /// The network configuration from standard input.
    pub config: Value,
}

/// A container and its interface, as the runtime lists those that live (`cni.dev/valid-attachments`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attachment {
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// Its interface.
    #[serde(rename = "ifname")]
    pub interface: String,
}

impl Request {
    /// `cniVersion` of the configuration; the oldest that has this field when it is left out.
    pub fn version(&self) -> &str {
        self.config["cniVersion"].as_str().unwrap_or("0.3.0")
    }

    /// A value of `CNI_ARGS`.
    pub fn argument(&self, key: &str) -> Option<&str> {
        self.arguments
            .split(';')
            .find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key))
            .map(|p| p.1)
    }

    /// Whom the request is about.
    pub fn attachment(&self) -> Attachment {
        Attachment { container_id: self.container_id.clone(), interface: self.interface.clone() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Command, Request};

    #[test]
    fn arguments_and_version_are_found() {
        let request = Request {
            command: Command::Add,
            container_id: "c".to_owned(),
            interface: "eth0".to_owned(),
            netns: "/run/netns/a".to_owned(),
            arguments: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=a".to_owned(),
            config: json!({"cniVersion": "1.1.0"}),
        };
        assert_eq!(request.argument("K8S_POD_NAME"), Some("a"));
        assert_eq!(request.argument("K8S_POD"), None);
        assert_eq!(request.version(), "1.1.0");
    }

    #[test]
    fn commands_have_the_names_of_the_specification() {
        assert_eq!(Command::named("STATUS"), Some(Command::Status));
        assert_eq!(Command::named("add"), None);
        assert_eq!(Command::named("VERSION"), None);
    }
}
