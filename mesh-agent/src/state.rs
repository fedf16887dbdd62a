//! What the agent knows at one moment; swapped in whole.

use std::sync::Arc;

use mesh_control_loadbalancer::ThisNode;
use mesh_k8s_api::ObjectSet;

use crate::derive::Derived;
use crate::health::{PartHealth, Problem};
use crate::programmed::ProxyListeners;
use crate::status::{Dated, Known};

/// The state of one moment.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// The objects.
    pub(crate) objects: Arc<ObjectSet>,
    /// What follows from them.
    pub(crate) derived: Arc<Derived>,
    /// Every condition of every object.
    pub(crate) conditions: Arc<Vec<Dated>>,
    /// What the proxy says of its listeners.
    pub(crate) proxy: ProxyListeners,
    /// Parts that the control loop knows of.
    pub(crate) parts: Vec<PartHealth>,
    /// What is wrong with manifests and objects.
    pub(crate) problems: Vec<Problem>,
    /// What is special of this node.
    pub(crate) node: Arc<ThisNode>,
}

impl State {
    /// What statuses are made of.
    pub(crate) fn known(&self) -> Known<'_> {
        Known {
            objects: &self.objects,
            conditions: &self.conditions,
            addresses: &self.derived.addresses,
            attached: &self.derived.attached,
        }
    }

    /// Before the first objects were taken; `reading` tells how far that is.
    pub(crate) fn starting(reading: PartHealth) -> Self {
        Self {
            objects: Arc::default(),
            derived: Arc::default(),
            conditions: Arc::default(),
            proxy: ProxyListeners::default(),
            parts: vec![reading],
            problems: Vec::new(),
            node: Arc::default(),
        }
    }
}
