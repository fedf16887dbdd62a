//! kubectl, for the commands that are about a whole cluster: it knows how the user gets there.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::args::ClusterOptions;

/// Where the agents' and the operators' pods are, by their labels.
pub(crate) const AGENTS: &str = "app.kubernetes.io/name=millrace-agent";
/// All of Millrace's pods.
pub(crate) const ALL: &str = "app.kubernetes.io/part-of=millrace";

/// How it is started.
#[derive(Clone, Debug)]
pub(crate) struct Kubectl {
    program: PathBuf,
    common: Vec<String>,
}

/// A pod of Millrace.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) containers: Vec<String>,
}

impl Kubectl {
    pub(crate) fn new(options: &ClusterOptions) -> Self {
        let mut common = Vec::new();
        if let Some(kubeconfig) = &options.kubeconfig {
            common.push(format!("--kubeconfig={}", kubeconfig.display()));
        }
        if let Some(context) = &options.context {
            common.push(format!("--context={context}"));
        }
        Self { program: options.kubectl.clone(), common }
    }

    /// What it prints.
    ///
    /// # Errors
    /// It is not there, or fails: with what it told.
    pub(crate) fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run_with(arguments, "")
    }

    /// The same, with something to read.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command.args(&self.common).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| {
            format!("cannot start {}: install kubectl, or set --kubectl", self.program.display())
        })?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that has ended without reading says itself why.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Objects, as after `kubectl get`.
    pub(crate) fn list(&self, what: &[&str]) -> anyhow::Result<Vec<Value>> {
        let text = self.run(&[&["get", "--output=json"][..], what].concat())?;
        let list: Value =
            serde_json::from_str(&text).with_context(|| format!("kubectl get {}", what.join(" ")))?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Millrace's pods with these labels, in whatever namespace it was installed into.
    pub(crate) fn pods(&self, labels: &str) -> anyhow::Result<Vec<Pod>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pods = self.list(&["pods", "--all-namespaces", "--selector", labels])?;
        let pods = pods.iter().map(|pod| Pod {
            namespace: text(&pod["metadata"]["namespace"]),
            name: text(&pod["metadata"]["name"]),
            node: text(&pod["spec"]["nodeName"]),
            containers: pod["spec"]["containers"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|c| text(&c["name"]))
                .collect(),
        });
        Ok(pods.collect())
    }
}
