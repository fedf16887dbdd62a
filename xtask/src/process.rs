//! Running other programs from the root of the repository.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

/// Root of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask lies below the root").to_owned()
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => root().join("target"),
    }
}

/// `program` at the root, with the environment as it is.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The same, ended with all that it started when it has not ended by then.
pub(crate) fn command_by(deadline: Option<Instant>, program: &str) -> Command {
    let Some(deadline) = deadline else { return command(program) };
    // Zero would be no limit.
    let left = deadline.saturating_duration_since(Instant::now()).as_secs().max(1);
    let mut command = command("timeout");
    command.args(["--kill-after=10", &left.to_string(), program]);
    command
}

/// Cargo of the workspace's own toolchain. What a cargo that started this one says of itself is taken out,
/// because another toolchain's cargo would believe it.
pub(crate) fn cargo() -> Command {
    cargo_program("cargo")
}

/// A program that itself starts cargo, ready to run like [`cargo`].
pub(crate) fn cargo_program(program: &str) -> Command {
    let mut cargo = command(program);
    for variable in ["RUSTUP_TOOLCHAIN", "RUSTC", "CARGO", "RUSTFLAGS"] {
        cargo.env_remove(variable);
    }
    cargo
}

/// Prints the command and runs it.
pub(crate) fn status(command: &mut Command) -> anyhow::Result<ExitStatus> {
    println!("$ {}", shown(command));
    command.status().with_context(|| format!("cannot start {}", shown(command)))
}

/// Prints the command, runs it, and fails when it does.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    println!("$ {}", shown(command));
    quiet_run(command)
}

/// Runs it without a word, and fails when it does.
pub(crate) fn quiet_run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// What a command prints, without showing it; its errors go to the terminal. `None` when it cannot be
/// started or fails.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one could type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where programs from outside are kept, each in a folder keyed by its version.
pub(crate) fn cache_dir() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    base.unwrap_or_else(std::env::temp_dir).join("millrace")
}

/// The commit that is checked out, and whether files differ from it.
pub(crate) fn describe_commit() -> String {
    let described = output(command("git").args(["describe", "--always", "--abbrev=12", "--dirty"]));
    described.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}
