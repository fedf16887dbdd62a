//! The tool as a user meets it, without an agent.

use assert_cmd::Command;

#[test]
fn without_an_agent_the_error_names_the_socket_and_the_option() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut millrace = Command::cargo_bin("millrace").expect("the tool is built");
    let output = millrace.args(["get", "ingress", "--run-dir"]).arg(folder.path()).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("agent.sock") && told.contains("--run-dir"), "{told}");
}

#[test]
fn an_unknown_kind_is_wrong_usage_and_lists_the_known_ones() {
    let mut millrace = Command::cargo_bin("millrace").expect("the tool is built");
    let output = millrace.args(["get", "teapot"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("httproute"));
}
