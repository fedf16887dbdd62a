//! A folder's YAML to the input of a translation, as far as these tests need it.
//!
//! A Secret of type `kubernetes.io/tls` stands for a certificate without being one: the annotation
//! `test/dns-names` lists its names, `test/broken` says why it cannot be used.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use mesh_k8s_api::{Object, ObjectSet, Resource, Source, Stored, core, gateway, networking};
use mesh_model::secret::{CertificateIndex, SecretBytes, TlsCertificate};
use mesh_model::service::{
    AppProtocol, ClientAddress, L7Balance, Protocol, Service, ServiceIndex, ServiceKind, ServicePort,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a translation looks at, owned.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) objects: ObjectSet,
    pub(crate) services: ServiceIndex,
    pub(crate) certificates: CertificateIndex,
}

/// The documents of a text.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>> {
    let texts = text.split("\n---\n").map(str::trim).filter(|document| !document.is_empty());
    texts.map(|text| serde_saphyr::from_str(text).with_context(|| text.to_owned())).collect()
}

impl World {
    /// Reads documents in the order given; the order must not matter.
    pub(crate) fn read(documents: Vec<Value>) -> Result<Self> {
        let mut world = Self::default();
        for document in documents {
            let text = document.to_string();
            world.add(document).context(text)?;
        }
        Ok(world)
    }

    /// Reads those of the documents that have the types of their kind; the others are left out, as a reader
    /// of files leaves them out.
    pub(crate) fn read_what_is_typed(documents: Vec<Value>) -> Self {
        let mut world = Self::default();
        for document in documents {
            // What fails half-way has added nothing.
            world.add(document).ok();
        }
        world
    }

    fn add(&mut self, value: Value) -> Result<()> {
        let object = match value.get("kind").and_then(Value::as_str).context("kind")? {
            "Service" => stored::<core::Service>(value)?.into(),
            "Secret" => return self.add_secret(value),
            "Namespace" => stored::<core::Namespace>(value)?.into(),
            "IngressClass" => stored::<networking::IngressClass>(value)?.into(),
            "Ingress" => stored::<networking::Ingress>(value)?.into(),
            "GatewayClass" => stored::<gateway::GatewayClass>(value)?.into(),
            "Gateway" => stored::<gateway::Gateway>(value)?.into(),
            "HTTPRoute" => stored::<gateway::HttpRoute>(value)?.into(),
            "ReferenceGrant" => stored::<gateway::ReferenceGrant>(value)?.into(),
            other => bail!("kind {other}"),
        };
        if let Object::Service(stored) = &object {
            let service = service(stored)?;
            self.services.insert(service.name.clone(), Arc::new(service));
        }
        self.objects.insert(object);
        Ok(())
    }

    fn add_secret(&mut self, value: Value) -> Result<()> {
        let secret = stored::<core::WireSecret>(value)?;
        let annotations = secret.object.metadata.annotations.clone().unwrap_or_default();
        let data = secret.object.string_data.clone().unwrap_or_default();
        let bytes = |key: &str| SecretBytes::new(data.get(key).cloned().unwrap_or_default().into_bytes());
        let object = mesh_k8s_api::Secret::from(secret.object);
        let name = object.namespaced_name();
        let origin = Object::from(Stored {
            object,
            source: secret.source,
            uid: secret.uid,
            generation: secret.generation,
            created_ms: secret.created_ms,
        })
        .origin();
        let names = annotations.get("test/dns-names").map(String::as_str).unwrap_or_default();
        let certificate = match annotations.get("test/broken") {
            Some(why) => Err(why.clone()),
            None => Ok(Arc::new(TlsCertificate {
                name: name.clone(),
                origin,
                chain_pem: bytes("tls.crt"),
                key_pem: bytes("tls.key"),
                dns_names: names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
                not_after: 4_102_444_800,
            })),
        };
        self.certificates.insert(name, certificate);
        Ok(())
    }
}

fn stored<T: DeserializeOwned>(mut value: Value) -> Result<Stored<T>> {
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    let cluster_scoped = matches!(kind.as_str(), "IngressClass" | "GatewayClass" | "Namespace");
    if !cluster_scoped
        && let Some(metadata) = value["metadata"].as_object_mut()
        && metadata.get("namespace").is_none_or(Value::is_null)
    {
        metadata.insert("namespace".to_owned(), "default".into());
    }
    let uid = format!("{kind}-{}", value["metadata"]["name"].as_str().unwrap_or_default());
    let object = serde_json::from_value(value)?;
    Ok(Stored { object, source: Source::Api, uid, generation: 1, created_ms: 0 })
}

fn service(stored: &Stored<core::Service>) -> Result<Service> {
    let spec = stored.object.spec.clone().unwrap_or_default();
    let kind = match (spec.type_.as_deref(), spec.cluster_ip.as_deref()) {
        (Some("ExternalName"), _) => ServiceKind::ExternalName(spec.external_name.unwrap_or_default()),
        (_, Some("None")) => ServiceKind::Headless,
        _ => ServiceKind::ClusterIp,
    };
    let cluster_ips = match (&kind, &spec.cluster_ip) {
        (ServiceKind::ClusterIp, Some(text)) => vec![text.parse()?],
        (ServiceKind::ClusterIp, None) => vec![[10, 96, 0, 1].into()],
        _ => Vec::new(),
    };
    let mut ports = Vec::new();
    for port in spec.ports.unwrap_or_default() {
        ports.push(ServicePort {
            name: port.name.unwrap_or_default(),
            port: port.port.try_into()?,
            protocol: if port.protocol.as_deref() == Some("UDP") { Protocol::Udp } else { Protocol::Tcp },
            app_protocol: AppProtocol::Http,
            node_port: None,
        });
    }
    Ok(Service {
        name: stored.object.namespaced_name(),
        origin: stored.origin(),
        kind,
        cluster_ips,
        external_ips: Vec::new(),
        ports,
        labels: BTreeMap::new(),
        client_address: ClientAddress::Keep,
        l7_balance: L7Balance::RoundRobin,
        external_traffic: Default::default(),
        internal_traffic: Default::default(),
    })
}
