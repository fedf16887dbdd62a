//! An API server to run against.

use mesh_k8s_api::Kind;
use mesh_testkit::api_server::ApiServer;

/// Serves every kind that is read, Leases and Events; nothing is there yet.
pub(crate) fn server() -> ApiServer {
    let path = |kind: Kind| match kind.group() {
        "" => format!("/api/{}/{}", kind.versions()[0], kind.plural()),
        group => format!("/apis/{group}/{}/{}", kind.versions()[0], kind.plural()),
    };
    let collections: Vec<String> = Kind::ALL.into_iter().map(path).collect();
    let server = ApiServer::start(&collections.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    server.serve("/apis/coordination.k8s.io/v1/leases");
    server.serve("/api/v1/events");
    server
}
