//! etcd, the API server, the controller manager and the scheduler: on the host, which is the outside world to
//! the nodes. Nobody but root and the nodes reaches any of them: etcd listens on sockets in the cluster's folder,
//! the API server on the address of the nodes' bridge, the other two nowhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::folder::Folder;
use crate::process::{self, Place};
use crate::programs::Programs;
use crate::spec::{API_PORT, Spec};

/// Where etcd takes requests, in the cluster's folder.
pub(crate) const ETCD_SOCKET: &str = "etcd-clients.sock";

/// What runs, in the order in which it is started.
pub(crate) const PROGRAMS: &[&str] = &["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// How long the API server may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// The control plane of a cluster.
pub(crate) struct ControlPlane<'a> {
    pub(crate) folder: &'a Folder,
    pub(crate) spec: &'a Spec,
    pub(crate) programs: &'a Programs,
    pub(crate) place: &'a Place,
}

impl ControlPlane<'_> {
    /// Starts what does not run, and waits until the API answers.
    pub(crate) fn start(&self, answers: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.start_one("etcd", self.etcd())?;
        self.start_one("kube-apiserver", self.api_server())?;
        let alive = || self.place.check("etcd").and_then(|()| self.place.check("kube-apiserver"));
        process::wait_while(alive, "the API server is ready", READY_WITHIN, answers)?;
        self.start_one("kube-controller-manager", self.controller_manager())?;
        self.start_one("kube-scheduler", self.scheduler())
    }

    fn start_one(&self, name: &str, arguments: Vec<String>) -> anyhow::Result<()> {
        self.place.start(name, &self.programs.find(name)?, &arguments).map(drop)
    }

    fn etcd(&self) -> Vec<String> {
        // There are none. etcd insists on a port: the socket of this name lies in the folder it runs in.
        let peers = "unix://etcd-peers:1".to_owned();
        flags([
            ("name", "millrace".to_owned()),
            ("data-dir", shown(&self.folder.path("etcd"))),
            ("listen-client-urls", self.etcd_socket()),
            ("advertise-client-urls", "unix://etcd-clients:1".to_owned()),
            ("listen-peer-urls", peers.clone()),
            ("initial-advertise-peer-urls", peers.clone()),
            ("initial-cluster", format!("millrace={peers}")),
            // A cluster for tests need not outlive the machine.
            ("unsafe-no-fsync", "true".to_owned()),
            ("log-level", "warn".to_owned()),
        ])
    }

    fn etcd_socket(&self) -> String {
        format!("unix://{}", self.folder.path(ETCD_SOCKET).display())
    }

    fn api_server(&self) -> Vec<String> {
        let plan = self.spec.plan();
        let address = plan.address(0).to_string();
        let key = |name: &str| shown(&self.folder.key(name));
        flags([
            ("etcd-servers", self.etcd_socket()),
            ("bind-address", address.clone()),
            ("advertise-address", address),
            ("secure-port", API_PORT.to_string()),
            ("tls-cert-file", key("apiserver.crt")),
            ("tls-private-key-file", key("apiserver.key")),
            ("client-ca-file", key("ca.crt")),
            ("token-auth-file", key("tokens.csv")),
            ("anonymous-auth", "false".to_owned()),
            ("authorization-mode", "Node,RBAC".to_owned()),
            ("enable-admission-plugins", "NodeRestriction".to_owned()),
            ("allow-privileged", "true".to_owned()),
            ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".to_owned()),
            ("service-account-key-file", key("service-accounts.pub")),
            ("service-account-signing-key-file", key("service-accounts.key")),
            ("service-cluster-ip-range", plan.service_ranges()),
            ("kubelet-client-certificate", key("apiserver-kubelet.crt")),
            ("kubelet-client-key", key("apiserver-kubelet.key")),
            ("kubelet-certificate-authority", key("ca.crt")),
            // Names of nodes are nowhere resolved; without this there is neither exec nor logs.
            ("kubelet-preferred-address-types", "InternalIP".to_owned()),
            ("requestheader-client-ca-file", key("front-proxy-ca.crt")),
            ("requestheader-allowed-names", "front-proxy-client".to_owned()),
            ("requestheader-username-headers", "X-Remote-User".to_owned()),
            ("requestheader-group-headers", "X-Remote-Group".to_owned()),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
            ("proxy-client-cert-file", key("front-proxy.crt")),
            ("proxy-client-key-file", key("front-proxy.key")),
            // There is no kube-proxy on the host: servers behind this one are reached at their pods.
            ("enable-aggregator-routing", "true".to_owned()),
            ("profiling", "false".to_owned()),
        ])
    }

    fn controller_manager(&self) -> Vec<String> {
        let plan = self.spec.plan();
        let mut flags = flags([
            ("kubeconfig", shown(&self.folder.key("controller-manager.kubeconfig"))),
            ("secure-port", "0".to_owned()),
            ("leader-elect", "false".to_owned()),
            ("use-service-account-credentials", "true".to_owned()),
            ("service-account-private-key-file", shown(&self.folder.key("service-accounts.key"))),
            ("root-ca-file", shown(&self.folder.key("ca.crt"))),
            ("cluster-signing-cert-file", shown(&self.folder.key("ca.crt"))),
            ("cluster-signing-key-file", shown(&self.folder.key("ca.key"))),
            ("allocate-node-cidrs", "true".to_owned()),
            ("cluster-cidr", plan.pod_ranges()),
            ("service-cluster-ip-range", plan.service_ranges()),
        ]);
        if self.spec.ip_family.has_v4() && self.spec.ip_family.has_v6() {
            flags.extend(
                ["--node-cidr-mask-size-ipv4=24", "--node-cidr-mask-size-ipv6=64"].map(str::to_owned),
            );
        }
        flags
    }

    fn scheduler(&self) -> Vec<String> {
        flags([
            ("kubeconfig", shown(&self.folder.key("scheduler.kubeconfig"))),
            ("secure-port", "0".to_owned()),
            ("leader-elect", "false".to_owned()),
        ])
    }
}

/// Flags as the programs of Kubernetes take them.
pub(crate) fn flags<const N: usize>(pairs: [(&str, String); N]) -> Vec<String> {
    pairs.into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

pub(crate) fn shown(path: &Path) -> String {
    PathBuf::from(path).display().to_string()
}
