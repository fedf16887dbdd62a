//! Where the API server is and who asks it.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// How long a connection may take to come up.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// What the user said about the API server. With nothing said it is that of the cluster this process is a pod of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiServer {
    /// A kubeconfig; its current context is used.
    pub kubeconfig: Option<PathBuf>,
    /// Addresses, in place of the one in the kubeconfig or in the environment; the next one is tried when one
    /// does not answer.
    pub urls: Vec<Uri>,
}

/// There is no way to an API server.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The kubeconfig cannot be used.
    #[error(
        "the kubeconfig {path} cannot be used: write one that `kubectl --kubeconfig {path} get ns` works with"
    )]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// The service account of the pod cannot be used.
    #[error(
        "the service account of this pod cannot be used: outside of a cluster, set --k8s-kubeconfig-path or \
         --k8s-api-server-urls; in a pod, leave automountServiceAccountToken on"
    )]
    InCluster(#[source] Box<kube::config::InClusterError>),
    /// Nothing was said, and this is no pod.
    #[error(
        "no API server is known: set --k8s-kubeconfig-path or --k8s-api-server-urls, or run in a pod, where \
         KUBERNETES_SERVICE_HOST is set"
    )]
    Nowhere,
    /// A client cannot be made of what was said.
    #[error("no client can be made for {url}: check certificates and keys of the kubeconfig")]
    Client {
        /// The address.
        url: Uri,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ApiServer {
    /// Reads files and environment, which may be others than the last time. The result has the address that is
    /// `turn`th, counted round.
    pub(crate) async fn read(&self, turn: usize) -> Result<kube::Config, AccessError> {
        let url = (!self.urls.is_empty()).then(|| self.urls[turn % self.urls.len()].clone());
        let mut config = match (&self.kubeconfig, &url) {
            (Some(path), _) => {
                let failed =
                    |source| AccessError::Kubeconfig { path: path.clone(), source: Box::new(source) };
                let read = Kubeconfig::read_from(path).map_err(failed)?;
                kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
                    .await
                    .map_err(failed)?
            }
            (None, Some(url)) => match kube::Config::incluster() {
                Ok(config) => config,
                // A server that asks for no credentials, such as one on the loopback.
                Err(_) => kube::Config::new(url.clone()),
            },
            (None, None) if std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() => {
                return Err(AccessError::Nowhere);
            }
            (None, None) => {
                kube::Config::incluster().map_err(|error| AccessError::InCluster(Box::new(error)))?
            }
        };
        if let Some(url) = url {
            config.cluster_url = url;
        }
        config.connect_timeout = Some(CONNECT_WITHIN);
        Ok(config)
    }
}
