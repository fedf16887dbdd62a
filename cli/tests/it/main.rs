//! The tool as a user meets it, without an agent. With one: `conformance/e2e/tests/it/command_line.rs`.

use std::os::unix::net::UnixListener;
use std::process::Output;
use std::time::{Duration, Instant};

use assert_cmd::Command;

fn millrace(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let mut millrace = Command::cargo_bin("millrace").expect("the tool is built");
    millrace.env("MILLRACE_RUN_DIR", folder.path()).args(arguments).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn without_an_agent_the_error_names_the_socket_and_how_to_start_one() {
    let questions: [&[&str]; 9] = [
        &["status"],
        &["get", "ingress"],
        &["describe", "ingress", "web"],
        &["service", "list"],
        &["config", "dump"],
        &["proxy", "stats"],
        &["bpf", "lb", "list"],
        &["xds", "clients"],
        &["events", "--follow"],
    ];
    for arguments in questions {
        let output = millrace(arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {told}");
        assert!(told.contains("agent.sock") && told.contains("there is no such socket"), "{told}");
        assert!(told.contains("mesh-agent --manifests") && told.contains("--run-dir"), "{told}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_wait_for_an_agent_that_never_comes_ends_in_time() {
    let output = millrace(&["status", "--wait", "--wait-duration", "300ms"]);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_wait_for_an_agent_that_hangs_ends_in_time_too() {
    let folder = tempfile::tempdir().expect("a folder");
    // Connections wait in its queue, and nobody takes them.
    let _hung = UnixListener::bind(folder.path().join("agent.sock")).expect("a socket");
    let begun = Instant::now();
    let mut millrace = Command::cargo_bin("millrace").expect("the tool is built");
    millrace.env("MILLRACE_RUN_DIR", folder.path());
    let output = millrace.args(["status", "--wait", "--wait-duration", "300ms"]).output().expect("it runs");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("did not answer within 300ms"), "{told}");
}

#[test]
fn wrong_usage_is_exit_code_2_and_lists_what_is_known() {
    let output = millrace(&["get", "teapot"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("httproute"));
    assert_eq!(millrace(&[]).status.code(), Some(2));
    assert_eq!(millrace(&["bpf", "lb", "list", "--frontends", "--backends"]).status.code(), Some(2));
    assert_eq!(millrace(&["status", "--wait-duration", "soon"]).status.code(), Some(2));
}

#[test]
fn the_own_version_needs_no_agent() {
    let output = millrace(&["version", "--client", "-o", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(version["client"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn completion_scripts_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = millrace(&["completion", shell]);
        assert_eq!(output.status.code(), Some(0));
        let script = text(&output.stdout);
        for command in ["status", "get", "describe", "service", "config", "proxy", "bpf", "xds", "events"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn help_names_every_exit_code() {
    let help = text(&millrace(&["--help"]).stdout);
    for code in ["0  done", "1  something is degraded", "2  wrong", "3  no agent", "4  what", "5  this agent"]
    {
        assert!(help.contains(code), "{code} is not in {help}");
    }
}
