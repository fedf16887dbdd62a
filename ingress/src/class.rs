//! Which Ingress objects are ours.

use mesh_k8s_api::Stored;
use mesh_k8s_api::networking::{Ingress, IngressClass};
use mesh_model::Note;

use crate::report::{Effect, Report};

/// The old way to name a class; it wins over `spec.ingressClassName`.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
/// Controller name of IngressClasses that are ours whatever they are called.
pub(crate) const CONTROLLER: &str = "millrace.io/ingress-controller";

/// The IngressClass objects, as far as they decide what is ours.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    ours: Vec<String>,
    others: Vec<String>,
    default: bool,
}

impl Classes {
    /// Reads the classes. A class is ours by the name of the configuration (compared literally, as Cilium
    /// does, whether or not the object exists) or by our controller name.
    pub(crate) fn read<'a>(
        class_name: &str,
        classes: impl Iterator<Item = &'a Stored<IngressClass>>,
        notes: &mut Vec<Note>,
    ) -> Self {
        let mut read = Self { ours: vec![class_name.to_owned()], ..Self::default() };
        for stored in classes {
            let class = &stored.object;
            let name = class.metadata.name.clone().unwrap_or_default();
            let controller = class.spec.as_ref().and_then(|spec| spec.controller.as_deref());
            if name == class_name || controller == Some(CONTROLLER) {
                let annotations = class.metadata.annotations.as_ref();
                let marked = annotations.and_then(|annotations| annotations.get(DEFAULT_ANNOTATION));
                read.default |= marked.is_some_and(|value| value == "true");
                read.ours.push(name);
                if class.spec.as_ref().is_some_and(|spec| spec.parameters.is_some()) {
                    let mut report = Report::default();
                    let message = "has no meaning for this controller; remove it".to_owned();
                    report.add(Effect::Warned, "spec.parameters", "NoEffect", message);
                    notes.extend(report.into_notes(&stored.origin()));
                }
            } else {
                read.others.push(name);
            }
        }
        read
    }

    /// True when `ingress` is ours. One that nobody can be meant to serve is reported.
    pub(crate) fn select(&self, ingress: &Ingress, report: &mut Report) -> bool {
        let annotations = ingress.metadata.annotations.as_ref();
        let annotated = annotations.and_then(|annotations| annotations.get(CLASS_ANNOTATION));
        let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_ref());
        let (name, field) = match (annotated, named) {
            (Some(name), _) if !name.is_empty() => {
                (name, "metadata.annotations[kubernetes.io/ingress.class]")
            }
            (_, Some(name)) if !name.is_empty() => (name, "spec.ingressClassName"),
            _ => {
                if !self.default {
                    report.add(
                        Effect::Told,
                        "spec.ingressClassName",
                        "NoClass",
                        format!(
                            "is missing and no class of ours is the default, so the Ingress is not served; set it to {:?}",
                            self.ours[0]
                        ),
                    );
                }
                return self.default;
            }
        };
        if self.ours.contains(name) {
            return true;
        }
        if !self.others.contains(name) {
            report.add(
                Effect::Warned,
                field,
                "ClassNotFound",
                format!("IngressClass {name} does not exist, so nobody serves the Ingress; create it or name {:?}", self.ours[0]),
            );
        }
        false
    }
}
