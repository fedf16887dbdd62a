use std::io::ErrorKind;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use rustix::net::{AddressFamily, SocketType};

use super::{ALLOWED, ALLOWED_HERE, FATAL, install, programs};

#[test]
fn no_call_is_both_allowed_and_fatal() {
    for call in FATAL {
        assert!(!ALLOWED.contains(call) && !ALLOWED_HERE.contains(call), "{call}");
    }
}

#[test]
fn filters_compile_and_fit_the_kernel() {
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let programs = programs(architecture, 1).unwrap();
    for program in [programs.fatal, programs.not_there, programs.allowed] {
        assert!(!program.is_empty() && program.len() <= 4096);
    }
}

/// Set in the process that is to be confined, which nobody else wants to be.
const CHILD: &str = "MILLRACE_TEST_CHILD";

/// Runs one of the ignored tests below in a process of its own.
fn in_a_child(test: &str) -> std::process::Output {
    let name = format!("worker::sandbox::seccomp::tests::{test}");
    Command::new(std::env::current_exe().unwrap())
        .env(CHILD, "1")
        .args([&name, "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap()
}

#[test]
fn confined_process_goes_on_after_a_denied_call() {
    let output = in_a_child("child_makes_denied_calls");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("1 passed"), "it ran");
}

#[test]
fn confined_process_is_killed_when_it_executes_a_program() {
    let output = in_a_child("child_executes_a_program");
    assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
}

#[test]
#[ignore = "run by confined_process_goes_on_after_a_denied_call, in a process of its own"]
fn child_makes_denied_calls() {
    if !confine() {
        return;
    }
    // What a worker needs.
    std::thread::spawn(|| ()).join().unwrap();
    std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    std::os::unix::net::UnixStream::pair().unwrap();
    // What it does not.
    let netlink = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None);
    assert_eq!(netlink.unwrap_err(), rustix::io::Errno::PERM);
    let directory = std::fs::create_dir("/tmp/made-by-a-confined-process").unwrap_err();
    assert_eq!(directory.kind(), ErrorKind::PermissionDenied);
    let process = Command::new("/bin/true").spawn().unwrap_err();
    assert_eq!(process.kind(), ErrorKind::PermissionDenied);
    let init = rustix::process::Pid::INIT;
    let signal = rustix::process::kill_process(init, rustix::process::Signal::CONT);
    assert_eq!(signal.unwrap_err(), rustix::io::Errno::PERM);
}

#[test]
#[ignore = "run by confined_process_is_killed_when_it_executes_a_program, in a process of its own"]
fn child_executes_a_program() {
    if !confine() {
        return;
    }
    let error = Command::new("/bin/true").exec();
    unreachable!("{error}");
}

fn confine() -> bool {
    if std::env::var_os(CHILD).is_none() {
        eprintln!("SKIPPED: it is run by another test, in a process of its own");
        return false;
    }
    rustix::thread::set_no_new_privs(true).unwrap();
    install().unwrap();
    true
}
