//! `.ci/run`, with a `make` that only says what the real one would.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const GATE: &str = "echo 'SKIPPED: packets: no root'; echo '3 passed, 0 failed, 0 skipped'; echo '5 passed, 0 failed, 1 skipped'";
const SMOKE: &str = "echo '1 passed, 0 failed, 0 skipped'";

/// Runs it; `test`, `demo` and `smoke` are what those targets do in a shell.
fn run(minutes: u32, [test, demo, smoke]: [&str; 3]) -> Output {
    let home = tempfile::tempdir().expect("a folder");
    let programs = home.path().join(".cargo/bin");
    fs::create_dir_all(&programs).expect("a folder");
    let make = programs.join("make");
    let script = format!(
        "#!/bin/sh\necho \"make $*\"\ncase $1 in\ntest) {test};;\ndemo) {demo};;\nsmoke) {smoke};;\nesac\n"
    );
    fs::write(&make, script).expect("written");
    fs::set_permissions(&make, fs::Permissions::from_mode(0o755)).expect("it can be run");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/run");
    let mut run = Command::new("bash");
    run.arg(script).env("HOME", home.path()).env("CI_LIMIT_MINUTES", minutes.to_string());
    run.stdin(Stdio::null()).output().expect("there is a bash")
}

/// The total, the line before it, and whether the run passed.
fn end(output: &Output) -> (String, String, bool) {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().rev().map(str::to_owned);
    let mut next = || lines.next().unwrap_or_else(|| panic!("{output:?}"));
    (next(), next(), output.status.success())
}

#[test]
fn what_the_gate_the_demo_and_the_smoke_count_is_added_up() {
    let output = run(70, [GATE, "true", SMOKE]);
    let (total, summary, passed) = end(&output);
    assert_eq!(total, "7 passed, 0 failed, 1 skipped");
    assert_eq!(summary, "gate passed, demo passed, cluster smoke passed, after 0 minutes");
    assert!(passed);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("make smoke MINUTES=70"), "{text}");
    assert_eq!(text.matches("SKIPPED: packets: no root").count(), 2, "not told again: {text}");
}

#[test]
fn a_smoke_that_cannot_run_is_told_and_counted_as_skipped() {
    let cannot = "echo 'SKIPPED: cluster smoke: no Go'; echo '0 passed, 0 failed, 1 skipped'";
    let output = run(70, [GATE, "true", cannot]);
    let (total, summary, passed) = end(&output);
    assert_eq!(total, "6 passed, 0 failed, 2 skipped");
    assert!(summary.contains("cluster smoke skipped"), "{summary}");
    assert!(passed);
}

#[test]
fn a_smoke_for_which_too_little_time_is_left_is_not_begun() {
    let output = run(10, [GATE, "true", SMOKE]);
    let (total, summary, passed) = end(&output);
    assert_eq!(total, "6 passed, 0 failed, 2 skipped");
    assert!(summary.contains("cluster smoke skipped"), "{summary}");
    assert!(passed);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("SKIPPED: cluster smoke: 10 minutes are left of 10"), "{text}");
    assert!(!text.contains("make smoke"), "{text}");
}

#[test]
fn what_fails_or_ends_before_it_counted_fails_the_run() {
    let failed = "echo '0 passed, 1 failed, 0 skipped'; exit 1";
    for (jobs, total) in [
        ([GATE, "true", failed], "6 passed, 1 failed, 1 skipped"),
        ([GATE, "true", "exit 2"], "6 passed, 1 failed, 1 skipped"),
        ([GATE, "true", "true"], "6 passed, 1 failed, 1 skipped"),
        ([GATE, "exit 1", SMOKE], "6 passed, 1 failed, 1 skipped"),
        (["exit 1", "true", SMOKE], "2 passed, 1 failed, 0 skipped"),
        ([failed, "true", SMOKE], "2 passed, 1 failed, 0 skipped"),
    ] {
        let (seen, summary, passed) = end(&run(70, jobs));
        assert_eq!(seen, total, "{jobs:?}");
        assert!(summary.contains("FAILED"), "{summary}");
        assert!(!passed, "{jobs:?}");
    }
}

#[test]
fn what_does_not_end_in_time_is_ended_with_all_that_it_started() {
    let start = Instant::now();
    let (total, _, passed) = end(&run(0, ["sleep 300 & wait", "true", SMOKE]));
    assert_eq!(total, "1 passed, 1 failed, 1 skipped");
    assert!(!passed);
    assert!(start.elapsed() < Duration::from_secs(60), "it waited for what it had ended");
}
