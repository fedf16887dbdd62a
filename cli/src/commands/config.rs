//! `millrace config`.

use std::process::ExitCode;

use serde_json::{Value, json};
use wildmatch::WildMatch;

use crate::agent::Agent;
use crate::args::{ConfigCommand, ResourceType};
use crate::exit::{Failure, Outcome};
use crate::output::{Output, items};

impl ResourceType {
    /// The section of the dump, the list in it, and where in an item the resource is.
    fn section(self) -> (&'static str, &'static str, &'static [&'static str]) {
        match self {
            Self::Listeners => ("ListenersConfigDump", "dynamic_listeners", &["active_state", "listener"]),
            Self::Routes => ("RoutesConfigDump", "dynamic_route_configs", &["route_config"]),
            Self::Clusters => ("ClustersConfigDump", "dynamic_active_clusters", &["cluster"]),
            Self::Endpoints => ("EndpointsConfigDump", "dynamic_endpoint_configs", &["endpoint_config"]),
            Self::Secrets => ("SecretsConfigDump", "dynamic_active_secrets", &["secret"]),
        }
    }

    const ALL: [Self; 5] = [Self::Listeners, Self::Routes, Self::Clusters, Self::Endpoints, Self::Secrets];
}

/// Prints the dump in the shape of Envoy's, whatever is left of it. Nothing left is exit code 4.
pub(crate) async fn run(agent: &Agent, output: &Output, command: &ConfigCommand) -> Outcome {
    let ConfigCommand::Dump { resource, name } = command;
    let dump = agent.ask("/v1/proxy/config-dump").await?;
    let pattern = name.as_deref().map(WildMatch::new);
    let filtered = filter(&dump, *resource, pattern.as_ref());
    let is_empty = items(&filtered["configs"]).next().is_none();
    if is_empty && (resource.is_some() || name.is_some()) {
        return Err(Failure::NotFound(
            "the proxy has no such resource; `millrace config dump` shows all".to_owned(),
        ));
    }
    output.document(&filtered)?;
    Ok(ExitCode::SUCCESS)
}

/// Sections of the wanted type with the wanted resources; with a pattern, empty sections are left out.
fn filter(dump: &Value, wanted: Option<ResourceType>, pattern: Option<&WildMatch>) -> Value {
    let sections = items(&dump["configs"]).filter_map(|section| {
        let kind = section["@type"].as_str()?;
        let resource = ResourceType::ALL.into_iter().find(|resource| kind.ends_with(resource.section().0))?;
        if wanted.is_some_and(|wanted| wanted != resource) {
            return None;
        }
        let (_, member, path) = resource.section();
        let is_kept = |item: &&Value| pattern.is_none_or(|pattern| pattern.matches(name_of(item, path)));
        let kept: Vec<Value> = items(&section[member]).filter(is_kept).cloned().collect();
        if kept.is_empty() && pattern.is_some() {
            return None;
        }
        let mut section = section.clone();
        section[member] = Value::Array(kept);
        Some(section)
    });
    json!({"configs": sections.collect::<Vec<_>>()})
}

/// Name of an item: its own, or that of the resource in it; endpoints are called `cluster_name`.
fn name_of<'a>(item: &'a Value, path: &[&str]) -> &'a str {
    let resource = path.iter().fold(item, |value, member| &value[*member]);
    let names = [&item["name"], &resource["name"], &resource["cluster_name"]];
    names.into_iter().find_map(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wildmatch::WildMatch;

    use super::filter;
    use crate::args::ResourceType;

    fn dump() -> Value {
        json!({"configs": [
            {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", "dynamic_active_clusters": [
                {"version_info": "1", "cluster": {"name": "shop:web:80"}},
                {"version_info": "1", "cluster": {"name": "shop:cart:80"}},
            ]},
            {"@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump", "dynamic_endpoint_configs": [
                {"version_info": "1", "endpoint_config": {"cluster_name": "shop/web:80"}},
            ]},
        ]})
    }

    #[test]
    fn resources_are_chosen_by_type_and_by_name() {
        assert_eq!(filter(&dump(), None, None), dump());
        let clusters = filter(&dump(), Some(ResourceType::Clusters), None);
        assert_eq!(clusters["configs"].as_array().map(Vec::len), Some(1));
        let web = filter(&dump(), None, Some(&WildMatch::new("shop?web*")));
        assert_eq!(web["configs"][0]["dynamic_active_clusters"].as_array().map(Vec::len), Some(1));
        assert_eq!(web["configs"][1]["dynamic_endpoint_configs"].as_array().map(Vec::len), Some(1));
        assert_eq!(filter(&dump(), None, Some(&WildMatch::new("no"))), json!({"configs": []}));
    }
}
