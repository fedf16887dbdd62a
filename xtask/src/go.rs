//! Programs in Go that a cluster is made of: built from modules whose versions and sums are kept in
//! conformance/cluster/programs, once for each version, into the cache.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

use crate::process;

/// Programs of one module.
struct Module {
    name: &'static str,
    /// Folder of the module below conformance/cluster/programs.
    sources: &'static str,
    packages: &'static [&'static str],
    /// Whether they are tests, which Go builds otherwise.
    are_tests: bool,
    /// The module that gives it its version; a program of our own has none.
    of: Option<&'static str>,
    /// Package whose variables are to say the version.
    version_package: Option<&'static str>,
}

const FOLDER: &str = "conformance/cluster/programs";

/// Quick ones first: what is wrong with the network or the compiler shows at once.
const MODULES: &[Module] = &[
    Module {
        name: "pause",
        sources: "pause",
        are_tests: false,
        packages: &["."],
        of: None,
        version_package: None,
    },
    Module {
        name: "cni",
        sources: "cni",
        are_tests: false,
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
        sources: "echo",
        are_tests: false,
        packages: &["sigs.k8s.io/gateway-api/conformance/echo-basic"],
        of: Some("sigs.k8s.io/gateway-api/conformance"),
        version_package: None,
    },
    Module {
        name: "coredns",
        sources: "coredns",
        are_tests: false,
        packages: &["."],
        of: Some("github.com/coredns/coredns"),
        version_package: None,
    },
    Module {
        name: "etcd",
        sources: "etcd",
        are_tests: false,
        packages: &["."],
        of: Some("go.etcd.io/etcd/server/v3"),
        version_package: None,
    },
    Module {
        name: "helm",
        sources: "helm",
        are_tests: false,
        packages: &["helm.sh/helm/v3/cmd/helm"],
        of: Some("helm.sh/helm/v3"),
        version_package: None,
    },
    Module {
        name: "kubernetes",
        sources: "kubernetes",
        are_tests: false,
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

/// The tests of Kubernetes itself, `e2e.test`: built for those who run them only.
const TESTS: Module = Module {
    name: "e2e",
    sources: "kubernetes",
    packages: &["k8s.io/kubernetes/test/e2e"],
    are_tests: true,
    of: Some("k8s.io/kubernetes"),
    version_package: Some("k8s.io/component-base/version"),
};

/// Builds the programs of a cluster, where need be.
pub(crate) fn build() -> anyhow::Result<()> {
    build_all(MODULES, None)
}

/// The same, given up when it has not ended by then; what was built stays.
pub(crate) fn build_by(deadline: Instant) -> anyhow::Result<()> {
    build_all(MODULES, Some(deadline))
}

/// Builds the tests of Kubernetes, where need be, and returns the program.
pub(crate) fn build_tests() -> anyhow::Result<PathBuf> {
    build_all(&[TESTS], None)?;
    Ok(TESTS.folder()?.join("e2e.test"))
}

/// Builds Helm, where need be, and returns the program.
pub(crate) fn build_helm() -> anyhow::Result<PathBuf> {
    let helm =
        MODULES.iter().find(|module| module.name == "helm").context("helm is a program of a cluster")?;
    build_all(std::slice::from_ref(helm), None)?;
    Ok(helm.folder()?.join("helm"))
}

/// Folders of the programs of a cluster; they need not be built.
pub(crate) fn folders() -> anyhow::Result<Vec<PathBuf>> {
    MODULES.iter().map(Module::folder).collect()
}

fn build_all(modules: &[Module], deadline: Option<Instant>) -> anyhow::Result<()> {
    if are_built(modules)? {
        return Ok(());
    }
    let _lock = lock()?;
    for module in modules {
        // Somebody else may have built it while this waited.
        if !module.is_built()? {
            println!("building {}; Kubernetes takes some minutes, once", module.name);
            let start = Instant::now();
            module.build(deadline)?;
            println!("{} took {} s", module.name, start.elapsed().as_secs());
        }
    }
    // Sources and objects are ten times as large as the programs.
    let scratch = scratch();
    fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))
}

fn are_built(modules: &[Module]) -> anyhow::Result<bool> {
    for module in modules {
        if !module.is_built()? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Held while something is built: two builds would remove each other's sources.
fn lock() -> anyhow::Result<File> {
    let scratch = scratch();
    fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let path = scratch.with_extension("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        println!("somebody else builds programs of a cluster: waiting until that has ended");
        flock(&file, FlockOperation::LockExclusive).context("cannot lock the cache")?;
        // The other has removed it in the end.
        fs::create_dir_all(&scratch)?;
    }
    Ok(file)
}

/// Where Go keeps sources and objects while it builds.
fn scratch() -> PathBuf {
    process::cache_dir().join("go")
}

impl Module {
    fn sources(&self) -> PathBuf {
        process::root().join(FOLDER).join(self.sources)
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

    fn build(&self, deadline: Option<Instant>) -> anyhow::Result<()> {
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
        let mut go = process::command_by(deadline, "go");
        go.current_dir(self.sources()).env("CGO_ENABLED", "0").env("GOWORK", "off");
        go.env("GOMODCACHE", scratch().join("mod")).env("GOCACHE", scratch().join("build"));
        // Without write permissions the sources could not be removed again.
        go.env("GOFLAGS", "-buildvcs=false -modcacherw -trimpath -mod=readonly");
        // The folder's last separator makes it a folder for Go.
        go.args(if self.are_tests { ["test", "-c"].as_slice() } else { &["build"] });
        go.args(["-ldflags", &flags, "-o"]).arg(format!("{}/", folder.display()));
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
