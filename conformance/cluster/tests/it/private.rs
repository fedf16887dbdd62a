//! Nobody else on the machine gets at a cluster.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use mesh_conformance_cluster::spec::API_PORT;

use crate::fixture::shared;

#[test]
#[ignore = "needs a cluster"]
fn cluster_keys_tokens_and_logs_are_readable_by_root_alone() {
    let cluster = shared();
    let kubeconfig = cluster.kubeconfig();
    let folder = kubeconfig.parent().expect("a folder");
    assert_eq!(mode(folder) & 0o077, 0, "others look into the cluster's folder");
    let mut checked = 0;
    for entry in
        fs::read_dir(folder.join("keys")).expect("keys").chain(fs::read_dir(folder).expect("a folder"))
    {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            assert_eq!(mode(&path) & 0o077, 0, "others read {}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} files");
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_the_api_server_listens_on_the_bridge_alone_and_knows_no_stranger() {
    let cluster = shared();
    let bridge = SocketAddr::new(cluster.spec().plan().address(0), API_PORT);
    let connects = |to: SocketAddr| TcpStream::connect_timeout(&to, Duration::from_secs(2)).is_ok();
    assert!(connects(bridge), "the API server is not at {bridge}");
    for elsewhere in ["127.0.0.1", "::1"] {
        let address = SocketAddr::new(elsewhere.parse().expect("an address"), API_PORT);
        assert!(!connects(address), "the API server is at {address} too");
    }
    let mut stranger = cluster.kubectl_command().expect("kubectl");
    stranger.args(["--token=stranger", "get", "--raw=/api"]);
    let told = stranger.output().expect("kubectl runs");
    assert!(!told.status.success());
    let error = String::from_utf8_lossy(&told.stderr);
    assert!(error.contains("Unauthorized") || error.contains("logged in"), "{error}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode()
}
