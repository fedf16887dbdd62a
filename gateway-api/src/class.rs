//! GatewayClasses: which Gateways are ours.

use std::collections::BTreeMap;

use mesh_model::{ConditionIntent, ConditionScope, Origin};

use crate::api::GatewayClass;
use crate::report::Conditions;

/// Controller name of our own classes, and of what we say about routes on Services.
pub const CONTROLLER: &str = "millrace.io/gateway-controller";
/// Cilium's controller name, served as well so that its manifests work as they are.
pub const CILIUM_CONTROLLER: &str = "io.cilium/gateway-controller";

/// What a class means for its Gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Ours.
    Accepted {
        /// Controller name, for the status.
        controller: &'static str,
    },
    /// Ours, and it cannot be served.
    Refused {
        /// Controller name, for the status.
        controller: &'static str,
        /// What is wrong with the class.
        message: String,
    },
    /// Another controller's.
    Foreign,
}

/// Judges the classes.
pub(crate) fn read<'a>(
    classes: impl Iterator<Item = (Origin, &'a GatewayClass)>,
    conditions: &mut Vec<ConditionIntent>,
) -> BTreeMap<String, Class> {
    let mut read = BTreeMap::new();
    for (origin, class) in classes {
        let controller = match class.spec.controller_name.as_str() {
            CONTROLLER => CONTROLLER,
            CILIUM_CONTROLLER => CILIUM_CONTROLLER,
            _ => {
                read.insert(origin.object.name.name.clone(), Class::Foreign);
                continue;
            }
        };
        let mut said = Conditions::new(&origin, ConditionScope::Object);
        let judged = match &class.spec.parameters_ref {
            None => {
                said.add("Accepted", true, "Accepted", format!("served by {controller}"));
                Class::Accepted { controller }
            }
            Some(parameters) => {
                let message = format!(
                    "spec.parametersRef: {} {} is not supported; remove the reference",
                    parameters.kind, parameters.name
                );
                said.add("Accepted", false, "InvalidParameters", &message);
                Class::Refused { controller, message }
            }
        };
        conditions.append(&mut said.rows);
        read.insert(origin.object.name.name.clone(), judged);
    }
    read
}
