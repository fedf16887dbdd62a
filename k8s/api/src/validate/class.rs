//! Namespaces, classes and grants.

use crate::core::Namespace;
use crate::gateway::{GatewayClass, ReferenceGrant};
use crate::networking::IngressClass;

use super::{Check, Issues};

impl Check for Namespace {
    fn check(&self, _: &mut Issues<'_>) {}
}

impl Check for IngressClass {
    fn check(&self, issues: &mut Issues<'_>) {
        let Some(spec) = &self.spec else {
            return issues.error(
                "spec",
                "is missing",
                "add `spec: {controller: cilium.io/ingress-controller}`",
            );
        };
        controller(issues, "spec.controller", spec.controller.as_deref().unwrap_or_default());
    }
}

impl Check for GatewayClass {
    fn check(&self, issues: &mut Issues<'_>) {
        controller(issues, "spec.controllerName", &self.spec.controller_name);
    }
}

impl Check for ReferenceGrant {
    fn check(&self, issues: &mut Issues<'_>) {
        if self.spec.from.is_empty() {
            issues.error("spec.from", "is empty", "name at least one group, kind and namespace");
        }
        if self.spec.to.is_empty() {
            issues.error("spec.to", "is empty", "name at least one group and kind");
        }
    }
}

fn controller(issues: &mut Issues<'_>, path: &str, name: &str) {
    if !name.split_once('/').is_some_and(|(domain, rest)| domain.contains('.') && !rest.is_empty()) {
        let problem = format!("{name:?} is no domain with a path");
        issues.error(path, problem, "write a name such as `io.cilium/gateway-controller`");
    }
}
