//! Names of resources.

use mesh_model::NamespacedName;
use mesh_model::service::ServicePortKey;

/// Name of a Service port's cluster, `namespace:service:port`, as Cilium names it.
pub fn cluster_name(key: &ServicePortKey) -> String {
    format!("{}:{}:{}", key.service.namespace, key.service.name, key.port)
}

/// Name of a Service port's endpoints, `namespace/service:port`, as Cilium names them.
pub fn endpoints_name(key: &ServicePortKey) -> String {
    key.to_string()
}

/// Name of a certificate, `namespace/name`.
pub fn secret_name(name: &NamespacedName) -> String {
    name.to_string()
}
