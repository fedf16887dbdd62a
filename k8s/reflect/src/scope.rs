//! What is watched: a kind, in one namespace or in all.

use std::fmt;

use kube::core::Request;
use kube::core::params::{ListParams, WatchParams};
use mesh_k8s_api::{Kind, Secret};
use mesh_model::NamespacedName;

use crate::failure::Failure;

/// Objects of a page of a list.
const PAGE: u32 = 500;

/// One watch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// The kind.
    pub kind: Kind,
    /// The namespace; `None`: all.
    pub namespace: Option<String>,
    /// The node whose objects are meant; `None`: all.
    pub node: Option<String>,
}

impl Scope {
    /// Path of the resource in this version.
    pub(crate) fn path(&self, version: &str) -> String {
        let root = match self.kind.group() {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        match &self.namespace {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.kind.plural()),
            None => format!("{root}/{}", self.kind.plural()),
        }
    }

    /// Path of an object.
    pub(crate) fn object_path(kind: Kind, version: &str, name: &NamespacedName) -> String {
        let namespace = kind.namespaced().then(|| name.namespace.clone());
        format!("{}/{}", Self { kind, namespace, node: None }.path(version), name.name)
    }

    /// Path of the status of an object.
    pub(crate) fn status_path(kind: Kind, version: &str, name: &NamespacedName) -> String {
        format!("{}/status", Self::object_path(kind, version, name))
    }

    /// Of Secrets only those for TLS are asked for: what is not needed does not come here.
    fn selector(&self) -> Option<String> {
        let of_node = self.node.as_ref().map(|node| format!("spec.nodeName={node}"));
        of_node.or_else(|| (self.kind == Kind::Secret).then(|| format!("type={}", Secret::TYPE_TLS)))
    }

    /// The request of one page.
    pub(crate) fn list(
        &self,
        version: &str,
        from: Option<String>,
    ) -> Result<http::Request<Vec<u8>>, Failure> {
        let params = ListParams {
            field_selector: self.selector(),
            limit: Some(PAGE),
            continue_token: from,
            ..ListParams::default()
        };
        Request::new(self.path(version)).list(&params).map_err(|error| Failure::broken(error.to_string()))
    }

    /// The request of what happens from `position` on, or, without one, of everything there is and then what
    /// happens.
    pub(crate) fn watch(
        &self,
        version: &str,
        position: Option<&str>,
        seconds: u32,
    ) -> Result<http::Request<Vec<u8>>, Failure> {
        let params = WatchParams {
            label_selector: None,
            field_selector: self.selector(),
            timeout: Some(seconds),
            bookmarks: true,
            send_initial_events: position.is_none(),
        };
        let request = Request::new(self.path(version)).watch(&params, position.unwrap_or_default());
        request.map_err(|error| Failure::broken(error.to_string()))
    }
}

/// As an operator would grant it: `secrets in shop`, `gateways.gateway.networking.k8s.io`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.plural())?;
        if !self.kind.group().is_empty() {
            write!(f, ".{}", self.kind.group())?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => Ok(()),
        }
    }
}
