//! The resources in use, for people, in the shape of Envoy's `/config_dump`.

use mesh_xds_proto::{redact, type_urls};
use serde_json::{Value, json};

use super::{ConfigStore, Raw};

impl ConfigStore {
    /// What is in use in the shape of Envoy's `/config_dump`, keys replaced by `[redacted]` and a
    /// fingerprint. Refused resources stand under `error_state` with field and reason.
    pub fn config_dump(&self) -> Value {
        json!({ "configs": [
            self.section(type_urls::CLUSTER, "ClustersConfigDump", "dynamic_active_clusters", |_, raw, body| {
                json!({ "version_info": raw.version, "cluster": body })
            }),
            self.section(type_urls::ENDPOINT, "EndpointsConfigDump", "dynamic_endpoint_configs", |_, raw, body| {
                json!({ "version_info": raw.version, "endpoint_config": body })
            }),
            self.section(type_urls::LISTENER, "ListenersConfigDump", "dynamic_listeners", |name, raw, body| {
                json!({ "name": name, "active_state": { "version_info": raw.version, "listener": body } })
            }),
            self.section(type_urls::ROUTE, "RoutesConfigDump", "dynamic_route_configs", |_, raw, body| {
                json!({ "version_info": raw.version, "route_config": body })
            }),
            self.section(type_urls::SECRET, "SecretsConfigDump", "dynamic_active_secrets", |name, raw, body| {
                json!({ "name": name, "version_info": raw.version, "secret": body })
            }),
        ] })
    }

    fn section(
        &self,
        type_url: &'static str,
        kind: &str,
        member: &str,
        item: impl Fn(&str, &Raw, Value) -> Value,
    ) -> Value {
        let held = self.raw.get(type_url).into_iter().flatten();
        let mut items: Vec<Value> =
            held.map(|(name, raw)| item(name, raw, redact::encode_any(&raw.body))).collect();
        for ((_, name), refused) in self.refused.iter().filter(|((held, _), _)| *held == type_url) {
            let details = format!("{}: {}", refused.field, refused.reason);
            items.push(json!({ "name": name, "error_state": { "details": details } }));
        }
        let mut section = json!({ "@type": format!("type.googleapis.com/envoy.admin.v3.{kind}") });
        section[member] = Value::Array(items);
        section
    }
}
