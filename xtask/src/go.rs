//! Programs in Go that a cluster is made of: built from modules whose versions and sums are kept in
//! conformance/cluster/programs, once for each version, into the cache.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::process;

/// A module, and what of it is built.
struct Module {
    /// Its folder below conformance/cluster/programs.
    name: &'static str,
    packages: &'static [&'static str],
    /// The module that gives it its version; a program of our own has none.
    of: Option<&'static str>,
    /// Package whose variables are to say the version.
    version_package: Option<&'static str>,
}

const FOLDER: &str = "conformance/cluster/programs";

/// Quick ones first: what is wrong with the network or the compiler shows at once.
const MODULES: &[Module] = &[
    Module { name: "pause", packages: &["."], of: None, version_package: None },
    Module {
        name: "cni",
        packages: &[
            "github.com/containernetworking/plugins/plugins/ipam/host-local",
            "github.com/containernetworking/plugins/plugins/main/bridge",
            "github.com/containernetworking/plugins/plugins/main/loopback",
            "github.com/containernetworking/plugins/plugins/meta/portmap",
        ],
        of: Some("github.com/containernetworking/plugins"),
        version_package: None,
    },
    Module {
        name: "echo",
        packages: &["sigs.k8s.io/gateway-api/conformance/echo-basic"],
        of: Some("sigs.k8s.io/gateway-api/conformance"),
        version_package: None,
    },
    Module { name: "etcd", packages: &["."], of: Some("go.etcd.io/etcd/server/v3"), version_package: None },
    Module {
        name: "helm",
        packages: &["helm.sh/helm/v3/cmd/helm"],
        of: Some("helm.sh/helm/v3"),
        version_package: None,
    },
    Module {
        name: "kubernetes",
        packages: &[
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            "k8s.io/kubernetes/cmd/kubectl",
            "k8s.io/kubernetes/cmd/kubelet",
            "k8s.io/kubernetes/test/images/agnhost",
        ],
        of: Some("k8s.io/kubernetes"),
        version_package: Some("k8s.io/component-base/version"),
    },
];

/// Folders of the programs, each built if need be.
pub(crate) fn build() -> anyhow::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for module in MODULES {
        let folder = module.folder()?;
        if !module.is_built()? {
            println!("building {}; Kubernetes takes some minutes, once", module.name);
            module.build()?;
        }
        folders.push(folder);
    }
    // Sources and objects are ten times as large as the programs.
    let scratch = scratch();
    if scratch.exists() {
        fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    }
    Ok(folders)
}

/// Folders of the programs; they need not be built.
pub(crate) fn folders() -> anyhow::Result<Vec<PathBuf>> {
    MODULES.iter().map(Module::folder).collect()
}

/// Where Go keeps sources and objects while it builds.
fn scratch() -> PathBuf {
    process::cache_dir().join("go")
}

impl Module {
    fn sources(&self) -> PathBuf {
        process::root().join(FOLDER).join(self.name)
    }

    /// Keyed by the version of what is built.
    fn folder(&self) -> anyhow::Result<PathBuf> {
        let version = self.version()?;
        Ok(process::cache_dir().join(format!("cluster-{}-{version}", self.name)))
    }

    fn version(&self) -> anyhow::Result<String> {
        let file = self.sources().join("go.mod");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let Some(of) = self.of else { return Ok("v1".to_owned()) };
        let version = required_version(&text, of);
        Ok(version.with_context(|| format!("{} does not require {of}", file.display()))?.to_owned())
    }

    /// All that its programs depend on. Beside them lies that of the last build, so that a change of a sum, of
    /// an import or of a flag builds them anew under the same version.
    fn inputs(&self) -> anyhow::Result<String> {
        let mut text = format!("{:?} {:?}\n", self.packages, self.version_package);
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.sources())?.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            text.push_str(
                &fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?,
            );
        }
        Ok(text)
    }

    fn is_built(&self) -> anyhow::Result<bool> {
        let built = fs::read_to_string(self.folder()?.join("inputs")).unwrap_or_default();
        Ok(built == self.inputs()?)
    }

    fn build(&self) -> anyhow::Result<()> {
        let folder = self.folder()?;
        let mut flags = "-s -w".to_owned();
        if let Some(package) = self.version_package {
            let version = self.version()?;
            let mut numbers = version.trim_start_matches('v').split('.');
            let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
            for (variable, value) in [("Version", version.as_str()), ("Major", major), ("Minor", minor)] {
                flags.push_str(&format!(" -X {package}.git{variable}={value}"));
            }
        }
        if process::output(process::command("go").arg("version")).is_none() {
            bail!("the programs of a cluster are built by Go 1.26 or later: install it");
        }
        let mut go = process::command("go");
        go.current_dir(self.sources()).env("CGO_ENABLED", "0").env("GOWORK", "off");
        go.env("GOMODCACHE", scratch().join("mod")).env("GOCACHE", scratch().join("build"));
        // Without write permissions the sources could not be removed again.
        go.env("GOFLAGS", "-buildvcs=false -modcacherw -trimpath -mod=readonly");
        // The folder's last separator makes it a folder for Go.
        go.args(["build", "-ldflags", &flags, "-o"]).arg(format!("{}/", folder.display()));
        process::run(go.args(self.packages))?;
        fs::write(folder.join("inputs"), self.inputs()?).context("cannot note what was built")
    }
}

/// Version of a module that a go.mod requires.
fn required_version<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    let mut lines = go_mod.lines().map(|line| line.trim_start_matches("require ").trim());
    let version = |line: &'a str| line.strip_prefix(module)?.strip_prefix(' ')?.split(' ').next();
    lines.find_map(version).filter(|version| version.starts_with('v'))
}

#[cfg(test)]
mod tests {
    use super::required_version;

    #[test]
    fn the_version_of_a_module_is_found_alone_and_in_a_list() {
        let go_mod =
            "module m\n\nrequire a.b/c v1.2.3\n\nrequire (\n\ta.b/cd v0.1.0 // indirect\n\te v2.0.0\n)\n";
        assert_eq!(required_version(go_mod, "a.b/c"), Some("v1.2.3"));
        assert_eq!(required_version(go_mod, "a.b/cd"), Some("v0.1.0"));
        assert_eq!(required_version("replace x => y v1.0.0\n", "x"), None);
    }
}
