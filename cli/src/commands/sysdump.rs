//! `millrace sysdump`: everything that somebody who is to help needs, in one file. Without secrets.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::args::SysdumpOptions;
use crate::exit::Outcome;
use crate::kubectl::{AGENTS, ALL, Kubectl};
use crate::output::Output;

/// Kinds of objects that are asked for; one that a cluster does not know is noted. Neither Secrets nor ConfigMaps.
const KINDS: &[&str] = &[
    "nodes",
    "namespaces",
    "pods",
    "services",
    "endpointslices.discovery.k8s.io",
    "ingressclasses.networking.k8s.io",
    "ingresses.networking.k8s.io",
    "gatewayclasses.gateway.networking.k8s.io",
    "gateways.gateway.networking.k8s.io",
    "httproutes.gateway.networking.k8s.io",
    "referencegrants.gateway.networking.k8s.io",
    "ciliumloadbalancerippools.cilium.io",
    "ciliumnodes.cilium.io",
    "daemonsets.apps",
    "deployments.apps",
    "leases.coordination.k8s.io",
    "events",
];
/// What each agent is asked, as `millrace` on its node. Keys are redacted by the agent itself.
const QUESTIONS: &[&[&str]] = &[
    &["status", "--verbose"],
    &["version"],
    &["endpoint", "list"],
    &["service", "list"],
    &["config", "dump"],
    &["proxy", "stats", "--all"],
    &["proxy", "clusters"],
    &["proxy", "listeners"],
    &["bpf", "list"],
    &["bpf", "lb", "list"],
    &["xds", "clients"],
    &["tables"],
    &["events", "--last", "1024"],
];

/// Writes the archive. What cannot be had is noted in it, and told.
pub(crate) fn run(output: &Output, options: &SysdumpOptions) -> Outcome {
    let kubectl = Kubectl::new(&options.cluster);
    // One that does not get to the cluster at all says so, instead of an archive of errors.
    kubectl.run(&["version"])?;
    let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let file =
        options.file.clone().unwrap_or_else(|| PathBuf::from(format!("millrace-sysdump-{now}.tar.gz")));
    // For whoever asked alone: objects tell much about a cluster.
    let archive = File::options().write(true).create(true).truncate(true).mode(0o600).open(&file);
    let archive = archive.with_context(|| format!("cannot write {}", file.display()))?;
    let mut dump = Dump {
        tar: tar::Builder::new(GzEncoder::new(archive, Compression::default())),
        root: format!("millrace-sysdump-{now}"),
        missing: Vec::new(),
        time: jiff::Timestamp::now().as_second().unsigned_abs(),
    };
    dump.objects(&kubectl)?;
    dump.agents(&kubectl)?;
    dump.logs(&kubectl)?;
    let missing = dump.missing.join("\n");
    dump.add("missing.txt", &missing)?;
    dump.tar
        .into_inner()
        .and_then(GzEncoder::finish)
        .with_context(|| format!("cannot write {}", file.display()))?;
    if !missing.is_empty() {
        output.text(&format!("not to be had:\n{missing}"))?;
    }
    output.text(&format!("written: {}", file.display()))?;
    Ok(ExitCode::SUCCESS)
}

struct Dump {
    tar: tar::Builder<GzEncoder<File>>,
    root: String,
    missing: Vec<String>,
    /// Of all files, in seconds since 1970.
    time: u64,
}

impl Dump {
    fn objects(&mut self, kubectl: &Kubectl) -> anyhow::Result<()> {
        for &kind in KINDS {
            let name = format!("objects/{kind}.json");
            let objects = kubectl.list(&[kind, "--all-namespaces"]).and_then(|mut objects| {
                objects.iter_mut().for_each(without_secrets);
                Ok(serde_json::to_string_pretty(&objects)?)
            });
            self.take(&name, objects)?;
        }
        Ok(())
    }

    fn agents(&mut self, kubectl: &Kubectl) -> anyhow::Result<()> {
        for pod in kubectl.pods(AGENTS)? {
            for question in QUESTIONS {
                let mut words =
                    vec!["exec", "--namespace", &pod.namespace, &pod.name, "--container=agent", "--"];
                words.extend(["millrace", "--output=json"]);
                words.extend(*question);
                let name = format!("nodes/{}/{}.json", pod.node, question.join("-").replace("--", ""));
                self.take(&name, kubectl.run(&words))?;
            }
        }
        Ok(())
    }

    fn logs(&mut self, kubectl: &Kubectl) -> anyhow::Result<()> {
        for pod in kubectl.pods(ALL)? {
            for container in &pod.containers {
                let name = format!("logs/{}/{container}.log", pod.name);
                let container = format!("--container={container}");
                let words = ["logs", "--namespace", &pod.namespace, &pod.name, &container, "--tail=100000"];
                self.take(&name, kubectl.run(&words))?;
                // There is none before the first one.
                if let Ok(before) = kubectl.run(&[&words[..], &["--previous"]].concat()) {
                    self.add(&name.replace(".log", ".previous.log"), &before)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &str, text: anyhow::Result<String>) -> anyhow::Result<()> {
        match text {
            Ok(text) => self.add(name, &text),
            Err(error) => {
                self.missing.push(format!("{name}: {error:#}"));
                Ok(())
            }
        }
    }

    fn add(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        let path = format!("{}/{name}", self.root);
        self.tar.append_data(&mut header, path, text.as_bytes()).with_context(|| format!("cannot add {name}"))
    }
}

/// Takes out what may hold a secret: the environment of containers, and the copy that `kubectl apply` leaves.
fn without_secrets(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for field in
                ["env", "envFrom", "managedFields", "kubectl.kubernetes.io/last-applied-configuration"]
            {
                fields.remove(field);
            }
            fields.values_mut().for_each(without_secrets);
        }
        Value::Array(items) => items.iter_mut().for_each(without_secrets),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{KINDS, without_secrets};

    #[test]
    fn no_kind_and_no_field_that_holds_secrets_is_dumped() {
        assert!(!KINDS.iter().any(|kind| kind.contains("secret") || kind.contains("configmap")));
        let mut pod = json!({
            "metadata": {"name": "a", "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "canary", "kept": "yes",
            }},
            "spec": {"containers": [{"name": "c", "env": [{"name": "PASSWORD", "value": "canary"}]}]},
        });
        without_secrets(&mut pod);
        assert!(!pod.to_string().contains("canary"), "{pod}");
        assert_eq!(pod["metadata"]["annotations"]["kept"], "yes");
        assert_eq!(pod["spec"]["containers"][0]["name"], "c");
    }
}
