use std::sync::Arc;
use std::time::Duration;

use mesh_k8s_api::Kind;
use mesh_k8s_reflect::{ApiServer as Access, ApiState, Config, Phase, Reflection, Timing};
use mesh_testkit::api_server::ApiServer;
use serde_json::{Value, json};
use tokio::sync::watch;

/// How long anything may take.
const WITHIN: Duration = Duration::from_secs(20);

pub(crate) const SERVICES: &str = "/api/v1/services";
pub(crate) const SECRETS: &str = "/api/v1/secrets";
pub(crate) const INGRESSES: &str = "/apis/networking.k8s.io/v1/ingresses";
pub(crate) const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/httproutes";

/// The collections that every cluster has.
pub(crate) const CORE: [&str; 7] = [
    "/api/v1/namespaces",
    "/api/v1/nodes",
    SECRETS,
    SERVICES,
    "/apis/discovery.k8s.io/v1/endpointslices",
    "/apis/networking.k8s.io/v1/ingressclasses",
    INGRESSES,
];

/// What is followed of a server.
pub(crate) struct Followed {
    pub(crate) state: watch::Receiver<Arc<ApiState>>,
    _reflection: Reflection,
}

pub(crate) fn timing() -> Timing {
    Timing {
        first_retry: Duration::from_millis(10),
        longest_retry: Duration::from_millis(100),
        relist_within: Duration::from_millis(20),
        absent_first: Duration::from_millis(20),
        absent_longest: Duration::from_millis(50),
        answer_within: Duration::from_secs(1),
        ..Timing::default()
    }
}

pub(crate) fn config(server: &ApiServer) -> Config {
    let urls = vec![server.url().parse().unwrap()];
    Config { timing: timing(), ..Config::new(Access { kubeconfig: None, urls }) }
}

impl Followed {
    pub(crate) async fn start(config: Config) -> Self {
        let reflection = Reflection::start(config).await.unwrap();
        Self { state: reflection.state(), _reflection: reflection }
    }

    pub(crate) async fn of(server: &ApiServer) -> Self {
        Self::start(config(server)).await
    }

    /// The first state that is as it should be.
    pub(crate) async fn until(&mut self, what: &str, is_it: impl Fn(&ApiState) -> bool) -> Arc<ApiState> {
        let waiting = async { self.state.wait_for(|state| is_it(state)).await.unwrap().clone() };
        if let Ok(found) = tokio::time::timeout(WITHIN, waiting).await {
            return found;
        }
        panic!("{what}: not within {WITHIN:?}: {:#?}", self.state.borrow())
    }

    /// Everything was read.
    pub(crate) async fn read(&mut self) -> Arc<ApiState> {
        self.until("everything is read", |state| state.revision > 0).await
    }
}

pub(crate) fn phase(state: &ApiState, kind: Kind) -> Phase {
    state.watches.iter().find(|watch| watch.scope.kind == kind).unwrap().phase.clone()
}

pub(crate) fn service(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ports": [{"port": port}]},
    })
}

pub(crate) fn ports(state: &ApiState) -> Vec<(String, i32)> {
    let services = state.objects.services.iter();
    services
        .map(|(name, service)| {
            let spec = service.object.spec.as_ref().unwrap();
            (name.name.clone(), spec.ports.as_ref().unwrap()[0].port)
        })
        .collect()
}

/// Until so many requests were sent.
pub(crate) async fn asked(server: &ApiServer, part: &str, times: usize) {
    let asking = async {
        while server.count(part) < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(WITHIN, asking).await.expect("so many requests");
}
