//! Namespaces and their labels, for `allowedRoutes`.

use std::collections::BTreeMap;

use mesh_model::address::{LabelRequirement, LabelSelector};

/// The label that Kubernetes gives to every namespace: its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Labels of the namespaces that are known.
#[derive(Debug, Default)]
pub(crate) struct Namespaces<'a> {
    pub(crate) labels: BTreeMap<&'a str, &'a BTreeMap<String, String>>,
}

impl Namespaces<'_> {
    /// True when `selector` takes the namespace. One without an object still has its name as a label, as
    /// every namespace of a cluster has.
    pub(crate) fn selected(&self, selector: &LabelSelector, namespace: &str) -> bool {
        let mut labels = self.labels.get(namespace).map(|labels| (*labels).clone()).unwrap_or_default();
        labels.insert(NAME_LABEL.to_owned(), namespace.to_owned());
        selector.matches(&labels)
    }
}

/// One `matchExpressions` entry: key, operator, values.
pub(crate) type Expression<'a> = (&'a str, &'a str, &'a [String]);

/// Puts a selector of the API together. The error says what is wrong and how to mend it.
pub(crate) fn selector<'a>(
    match_labels: Option<&BTreeMap<String, String>>,
    match_expressions: impl Iterator<Item = Expression<'a>>,
) -> Result<LabelSelector, String> {
    let mut requirements: Vec<LabelRequirement> = match_labels
        .into_iter()
        .flatten()
        .map(|(key, value)| LabelRequirement::In(key.clone(), vec![value.clone()]))
        .collect();
    for (key, operator, values) in match_expressions {
        let key = key.to_owned();
        requirements.push(match (operator, values) {
            ("In", [_, ..]) => LabelRequirement::In(key, values.to_vec()),
            ("NotIn", [_, ..]) => LabelRequirement::NotIn(key, values.to_vec()),
            ("Exists", []) => LabelRequirement::Exists(key),
            ("DoesNotExist", []) => LabelRequirement::DoesNotExist(key),
            ("In" | "NotIn", []) => {
                return Err(format!("operator {operator} on {key} needs values; add some"));
            }
            ("Exists" | "DoesNotExist", _) => {
                return Err(format!("operator {operator} on {key} takes no values; remove them"));
            }
            _ => {
                return Err(format!(
                    "operator {operator:?} on {key} is not known; use In, NotIn, Exists or DoesNotExist"
                ));
            }
        });
    }
    Ok(LabelSelector { requirements })
}

#[cfg(test)]
mod tests;
