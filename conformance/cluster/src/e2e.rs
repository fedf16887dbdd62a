//! Kubernetes' own tests of the network, run against a cluster: which, with which images, and what came of them.
//!
//! Images cannot be pulled: the tests are told another registry for theirs, and images of those names are made here,
//! of the same programs and of Debian's tools.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use mesh_oci::{Entry, Image};
use serde::Deserialize;

use crate::cluster::Cluster;
use crate::rootfs;

/// The registry that the tests are told, by their names for the ones they know.
const REGISTRIES: &str = "promoterE2eRegistry: millrace.test/e2e\n";
/// What of the tests' images is made here, by the end of the name before the tag.
const IMAGES: [&str; 2] = ["/agnhost", "/jessie-dnsutils"];
/// And what does nothing, which has a registry of its own.
const PAUSE: &str = "registry.k8s.io/pause";
/// What tests start in their pods.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "dash",
    "curl",
    "bind9-dnsutils",
    "netcat-openbsd",
    "iproute2",
    "iputils-ping",
    "libc-bin",
];
const TOOLS: &[&str] = &[
    "cat", "echo", "ls", "seq", "sleep", "test", "true", "false", "hostname", "awk", "sed", "grep", "cut",
    "head", "tail", "timeout", "wget", "nslookup", "netstat", "ps", "kill", "mkdir", "rm", "touch", "date",
    "base64", "wc", "tr", "env", "id", "sort", "uniq", "expr", "dd", "stat", "ip", "printf",
];
/// Groups of tests; besides them the conformance tests of the network.
const GROUPS: [&str; 3] = ["[sig-network] Networking ", "[sig-network] DNS ", "[sig-network] HostPort "];
/// In the names of tests of what a cluster need not have, and of those that break it.
const NOT_OURS: [&str; 5] = ["[Feature:", "[FeatureGate:", "[Provider:", "[Disruptive]", "[Alpha]"];

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only tests with one of these in their names.
    pub focus: Vec<String>,
    /// Of so many parts of all tests that of this number, the first being 1.
    pub shard: Option<(usize, usize)>,
    /// Names of tests that are not run, with the reason.
    pub skipped: BTreeMap<String, String>,
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its full name.
    pub test: String,
    /// Why it failed; nothing when it passed.
    pub failure: Option<String>,
    /// How long it took.
    pub seconds: u64,
}

/// A report as Ginkgo writes it, of which this is what is read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    spec_reports: Vec<Spec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_text: String,
    leaf_node_type: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    run_time: u64,
    #[serde(default)]
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
}

impl Spec {
    fn name(&self) -> String {
        let mut words = self.container_hierarchy_texts.clone().unwrap_or_default();
        words.push(self.leaf_node_text.clone());
        words.join(" ")
    }
}

/// The program and where it works.
#[derive(Clone, Debug)]
pub struct E2e<'a> {
    cluster: &'a Cluster,
    program: PathBuf,
    folder: PathBuf,
}

impl<'a> E2e<'a> {
    /// Tests of this program on this cluster.
    ///
    /// # Errors
    /// The cluster's folder cannot be written to.
    pub fn new(cluster: &'a Cluster, program: &Path) -> anyhow::Result<Self> {
        let folder = cluster.image_file().with_file_name("e2e");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::write(folder.join("registries.yaml"), REGISTRIES)?;
        Ok(Self { cluster, program: program.to_owned(), folder })
    }

    /// Makes the images that tests ask for, and gives them to the nodes. Root file systems are kept below `cache`.
    ///
    /// # Errors
    /// A package cannot be had, or a node does not take an image.
    pub fn load_images(&self, cache: &Path) -> anyhow::Result<()> {
        let tree = cache.join("e2e-tools");
        rootfs::make(&tree, PACKAGES)?;
        rootfs::link_busybox(&tree, TOOLS)?;
        let mut files = Entry::tree(&tree)?;
        files.push(Entry::program("agnhost", self.cluster.programs().find("agnhost")?));
        let list = self.command().arg("--list-images").output().context("cannot start e2e.test")?;
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        let is_made = |reference: &str| {
            reference.rsplit_once(':').is_some_and(|(name, _)| {
                let is_ours = name.starts_with("millrace.test/");
                name == PAUSE || is_ours && IMAGES.iter().any(|end| name.ends_with(end))
            })
        };
        for reference in list.lines().filter(|reference| is_made(reference)) {
            let image = Image {
                reference: reference.to_owned(),
                files: files.clone(),
                entrypoint: vec!["/agnhost".to_owned()],
                arguments: vec!["pause".to_owned()],
                path: "/bin:/usr/bin:/sbin:/usr/sbin:/".to_owned(),
            };
            let archive = self.folder.join("image.tar");
            image.write(&archive)?;
            self.cluster.load_image(&archive, None)?;
            fs::remove_file(&archive)?;
        }
        Ok(())
    }

    /// Names of the tests that are selected, in order.
    ///
    /// # Errors
    /// The program does not list its tests.
    pub fn select(&self, selection: &Selection) -> anyhow::Result<Vec<String>> {
        let report = self.folder.join("list.json");
        let mut list = self.command();
        list.arg("--ginkgo.dry-run").arg("--ginkgo.focus=\\[sig-network\\]");
        let output = list.arg(format!("--ginkgo.json-report={}", report.display())).output()?;
        ensure!(
            output.status.success(),
            "e2e.test lists nothing: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut names: Vec<String> = read(&report)?
            .into_iter()
            .filter(|spec| spec.leaf_node_type == "It")
            .map(|spec| spec.name())
            .filter(|name| is_selected(name, selection))
            .collect();
        names.sort();
        names.dedup();
        if let Some((number, of)) = selection.shard {
            names = names.into_iter().skip(number - 1).step_by(of).collect();
        }
        Ok(names)
    }

    /// Runs tests, one after the other; their words go to `log`.
    ///
    /// # Errors
    /// The program cannot be run, or reports nothing.
    pub fn run(&self, names: &[String], log: &Path) -> anyhow::Result<Vec<Outcome>> {
        let report = self.folder.join("report.json");
        let _ = fs::remove_file(&report);
        let out = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut run = self.command();
        for name in names {
            // What it is held against begins with the name of the suite.
            run.arg(format!("--ginkgo.focus= {}$", escaped(name)));
        }
        run.args([
            "--ginkgo.no-color",
            "--ginkgo.timeout=2h",
            "--allowed-not-ready-nodes=0",
            "--minStartupPods=0",
        ]);
        run.args(["--delete-namespace=true", "--disable-log-dump=true", "--dns-domain=cluster.local"]);
        run.arg(format!("--ginkgo.json-report={}", report.display()));
        let status = run.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).status();
        let status = status.context("cannot start e2e.test")?;
        let outcomes: Vec<Outcome> = read(&report)
            .with_context(|| format!("e2e.test ended with {status}: see {}", log.display()))?
            .into_iter()
            .filter(|spec| spec.leaf_node_type == "It" && names.contains(&spec.name()))
            .map(|spec| Outcome {
                test: spec.name(),
                seconds: spec.run_time / 1_000_000_000,
                failure: (spec.state != "passed").then(|| {
                    let message = spec.failure.map(|failure| failure.message).unwrap_or_default();
                    if message.is_empty() { spec.state } else { message }
                }),
            })
            .collect();
        if outcomes.len() != names.len() {
            bail!("{} of {} tests were reported: see {}", outcomes.len(), names.len(), log.display());
        }
        Ok(outcomes)
    }

    fn command(&self) -> Command {
        let mut command = self.cluster.control().command(&self.program);
        command.current_dir(&self.folder).env("KUBE_TEST_REPO_LIST", self.folder.join("registries.yaml"));
        command
            .arg("--provider=skeleton")
            .arg(format!("--kubeconfig={}", self.cluster.kubeconfig().display()));
        // Some tests start kubectl by its name.
        if let Ok(kubectl) = self.cluster.programs().find("kubectl") {
            command.arg(format!("--kubectl-path={}", kubectl.display()));
        }
        command
    }
}

fn is_selected(name: &str, selection: &Selection) -> bool {
    let is_ours = GROUPS.iter().any(|group| name.starts_with(group))
        || name.starts_with("[sig-network]") && name.contains("[Conformance]");
    let is_focused = selection.focus.is_empty() || selection.focus.iter().any(|text| name.contains(text));
    is_ours
        && !NOT_OURS.iter().any(|mark| name.contains(mark))
        && is_focused
        && !selection.skipped.contains_key(name)
}

fn read(report: &Path) -> anyhow::Result<Vec<Spec>> {
    let text = fs::read(report).with_context(|| format!("there is no {}", report.display()))?;
    let reports: Vec<Report> = serde_json::from_slice(&text).context("the report is none of Ginkgo's")?;
    Ok(reports.into_iter().flat_map(|report| report.spec_reports).collect())
}

/// As a regular expression that matches this text alone.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Reads a list of tests that are not run: `name<TAB>reason` on each line, `#` begins a remark.
///
/// # Errors
/// The file cannot be read, or a line has no reason.
pub fn read_skipped(file: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, reason) = line.split_once('\t').with_context(|| format!("no reason for: {line}"))?;
            Ok((name.trim().to_owned(), reason.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Selection, escaped, is_selected};

    #[test]
    fn groups_and_conformance_are_selected_and_features_are_not() {
        let all = Selection::default();
        assert!(is_selected("[sig-network] DNS should support configurable pod resolv.conf", &all));
        assert!(is_selected(
            "[sig-network] Services should serve a basic endpoint from pods [Conformance]",
            &all
        ));
        assert!(!is_selected("[sig-network] Services should work after restarting kube-proxy", &all));
        assert!(!is_selected(
            "[sig-network] Networking IPerf2 [Feature:Networking-Performance] should run",
            &all
        ));
        let focus = Selection { focus: vec!["DNS".to_owned()], ..Selection::default() };
        assert!(!is_selected("[sig-network] HostPort validates [Conformance]", &focus));
    }

    #[test]
    fn a_name_matches_itself_alone() {
        assert_eq!(escaped("[a] b (c)"), r"\[a\] b \(c\)");
    }
}
