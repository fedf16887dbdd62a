//! Flags that name no source, or two.

use std::process::Command;

fn refused(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mesh-agent"))
        .env_remove("KUBERNETES_SERVICE_HOST")
        .env("MILLRACE_RUN_DIR", folder.path())
        .args(arguments)
        .output()
        .unwrap();
    assert!(!output.status.success(), "{arguments:?} is taken");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_error_names_the_flag_and_what_to_write() {
    let none = refused(&["--redirect", "off", "--start-proxy", "false"]);
    for flag in ["--manifests", "--k8s-kubeconfig-path", "--k8s-api-server-urls"] {
        assert!(none.contains(flag), "{none}");
    }
    let url = refused(&["--k8s-api-server-urls", "192.0.2.1:6443"]);
    assert!(url.contains("https://192.0.2.10:6443"), "{url}");
    let lease = refused(&["operator", "--kubeconfig", "f", "--leader-election-lease-duration", "1s"]);
    assert!(lease.contains("--leader-election-renew-deadline"), "{lease}");
    let missing = refused(&["operator", "--kubeconfig", "/nonexistent/kubeconfig"]);
    assert!(missing.contains("/nonexistent/kubeconfig"), "{missing}");
    let nowhere = refused(&["operator"]);
    assert!(nowhere.contains("--k8s-kubeconfig-path"), "{nowhere}");
}
