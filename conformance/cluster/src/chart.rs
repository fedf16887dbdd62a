//! Millrace on a cluster, by its chart.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::cni;
use crate::process;
use crate::spec::API_PORT;

/// The release's name.
pub const RELEASE: &str = "millrace";
/// The namespace that it is installed into.
pub const NAMESPACE: &str = "millrace-system";
/// Names the chart's folder, and that of the product's images, to tests.
pub const VARIABLES: [&str; 2] = ["MILLRACE_CHART", "MILLRACE_IMAGES"];

/// The chart and the images that it installs.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Folder of the chart.
    pub folder: PathBuf,
    /// Folder of the images' archives.
    pub images: PathBuf,
}

impl Chart {
    /// Those that the environment names.
    ///
    /// # Errors
    /// It names none.
    pub fn from_environment() -> anyhow::Result<Self> {
        let [folder, images] = VARIABLES.map(|name| {
            let value = std::env::var_os(name).map(PathBuf::from);
            value.with_context(|| format!("{name} is not set: use `cargo xtask cluster`, which sets it"))
        });
        Ok(Self { folder: folder?, images: images? })
    }

    /// Gives the nodes the images.
    ///
    /// # Errors
    /// There are none, or a node does not take one.
    pub fn load_images(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let list = std::fs::read_dir(&self.images);
        let list =
            list.with_context(|| format!("there is no {}: `cargo xtask image`", self.images.display()))?;
        for entry in list {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "tar") {
                cluster.load_image(&path, None)?;
            }
        }
        Ok(())
    }

    /// Installs the release, or upgrades it, with these values besides those that follow from the cluster; both as Helm's
    /// `--set` takes them. Ends when everything is ready.
    ///
    /// # Errors
    /// Helm refuses, or something is not ready within the time: with what the agents' pods look like.
    pub fn install(&self, cluster: &Cluster, set: &[String], within: Duration) -> anyhow::Result<()> {
        let values = cluster.image_file().with_extension("values.json");
        std::fs::write(&values, values_of(cluster).to_string())
            .with_context(|| format!("cannot write {}", values.display()))?;
        let seconds = format!("{}s", within.as_secs());
        let mut helm = helm(cluster)?;
        helm.args(["upgrade", "--install", RELEASE]).arg(&self.folder);
        helm.args(["--create-namespace", "--wait", "--timeout", &seconds, "--values"]).arg(&values);
        helm.args(set.iter().flat_map(|value| ["--set", value]));
        let outcome = run(helm);
        std::fs::remove_file(&values)?;
        cni::route_on_host(cluster)?;
        outcome.and_then(|()| wait(cluster, within)).map_err(|error| error.context(state(cluster)))?;
        cluster.wait_until_ready(within)
    }

    /// Removes the release and its namespace, and waits until its pods are gone.
    ///
    /// # Errors
    /// Helm fails: with what its pods look like.
    pub fn uninstall(&self, cluster: &Cluster, within: Duration) -> anyhow::Result<()> {
        let mut helm = helm(cluster)?;
        helm.args(["uninstall", RELEASE, "--wait", "--timeout", &format!("{}s", within.as_secs())]);
        run(helm).map_err(|error| error.context(state(cluster)))?;
        process::wait_while(
            || Ok(()),
            "Millrace's pods are gone",
            within,
            || {
                let pods = cluster.kubectl(&["get", "pods", "--namespace", NAMESPACE, "--output=name"])?;
                ensure!(pods.trim().is_empty(), "still there: {}", pods.trim());
                Ok(())
            },
        )?;
        cluster.kubectl(&["delete", "namespace", NAMESPACE]).map(drop)
    }
}

/// Waits until every pod is there in its newest version and ready. Helm itself is content with a DaemonSet that lacks as
/// many as may be unavailable.
///
/// # Errors
/// They are not within the time.
pub fn wait(cluster: &Cluster, within: Duration) -> anyhow::Result<()> {
    let timeout = format!("--timeout={}s", within.as_secs());
    for what in ["daemonset/millrace", "daemonset/millrace-proxy", "deployment/millrace-operator"] {
        cluster.kubectl(&["rollout", "status", what, "--namespace", NAMESPACE, &timeout])?;
    }
    Ok(())
}

/// Rolls the release back to this revision and waits until every pod is of it.
///
/// # Errors
/// Helm fails, or something is not ready within the time.
pub fn roll_back(cluster: &Cluster, revision: u32, within: Duration) -> anyhow::Result<()> {
    let mut helm = helm(cluster)?;
    let seconds = format!("{}s", within.as_secs());
    helm.args(["rollback", RELEASE, &revision.to_string(), "--wait", "--timeout", &seconds]);
    run(helm).and_then(|()| wait(cluster, within)).map_err(|error| error.context(state(cluster)))
}

/// Helm as the cluster's administrator, for the namespace of the release.
///
/// # Errors
/// Helm is not there.
pub fn helm(cluster: &Cluster) -> anyhow::Result<Command> {
    let mut helm = cluster.control().command(cluster.programs().find("helm")?);
    helm.arg("--kubeconfig").arg(cluster.kubeconfig()).args(["--namespace", NAMESPACE]);
    // What Helm keeps goes with the cluster.
    let home = cluster.image_file().with_file_name("helm");
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(variable, &home);
    }
    Ok(helm)
}

/// What the chart has to know of a cluster.
pub fn values_of(cluster: &Cluster) -> Value {
    let (spec, plan) = (cluster.spec(), cluster.spec().plan());
    let ranges = plan.pod_ranges();
    let range =
        |is_v6: bool| ranges.split(',').find(|range| range.contains(':') == is_v6).unwrap_or_default();
    json!({
        "k8sServiceHost": plan.address(0),
        "k8sServicePort": API_PORT,
        "ipam": {"mode": "kubernetes"},
        "ipv4": {"enabled": spec.ip_family.has_v4()},
        "ipv6": {"enabled": spec.ip_family.has_v6()},
        "ipv4NativeRoutingCIDR": range(false),
        "ipv6NativeRoutingCIDR": range(true),
        "autoDirectNodeRoutes": true,
        "ingressController": {"enabled": true},
        // Several nodes have one cgroup file system; a node's processes are below its own.
        "cgroup": {"hostRoot": cgroup_root(&spec.prefix())},
    })
}

fn cgroup_root(prefix: &str) -> String {
    let unified = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    let root = unified.into_iter().find(|root| Path::new(root).join("cgroup.procs").exists());
    format!("{}/{prefix}-$(K8S_NODE_NAME)", root.unwrap_or("/sys/fs/cgroup"))
}

fn run(mut command: Command) -> anyhow::Result<()> {
    let output = command.output().context("cannot start helm")?;
    if !output.status.success() {
        let told = [output.stderr, output.stdout].concat();
        bail!("helm: {}", String::from_utf8_lossy(&told).trim());
    }
    Ok(())
}

/// What the release's pods look like, and what the agents log, for whoever has to find out why.
pub fn state(cluster: &Cluster) -> String {
    let ask = |arguments: &[&str]| {
        let mut all = vec!["--namespace", NAMESPACE];
        all.extend(arguments);
        cluster.kubectl(&all).unwrap_or_else(|error| format!("{error:#}"))
    };
    let logs = |name: &str| {
        let selector = format!("app.kubernetes.io/name={name}");
        ask(&["logs", "--selector", &selector, "--all-containers", "--prefix", "--tail=30"])
    };
    [
        ask(&["get", "pods", "--output=wide"]),
        ask(&["get", "events", "--sort-by=.lastTimestamp", "--field-selector=type=Warning"]),
        logs("millrace-agent"),
        logs("millrace-proxy"),
        logs("millrace-operator"),
    ]
    .join("\n")
}
