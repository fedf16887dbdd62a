//! How a run ends: exit codes, and errors that carry one.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

/// Something is degraded, or the answer could not be had.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong; clap's own code.
pub(crate) const USAGE: u8 = 2;
/// No agent answers.
pub(crate) const UNREACHABLE: u8 = 3;
/// What was asked for is not there.
pub(crate) const NOT_FOUND: u8 = 4;
/// This agent has no such part, or the part does not answer.
pub(crate) const UNAVAILABLE: u8 = 5;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No agent answers at this socket.
    Unreachable { socket: PathBuf, why: String },
    /// What was asked for is not there.
    NotFound(String),
    /// This agent has no such part, or the part does not answer.
    Unavailable(String),
    /// The question is none.
    Usage(String),
    /// Who reads our output has closed it, as `head` does. Not an error.
    OutputClosed,
    /// Anything else.
    Other(anyhow::Error),
}

/// What a command comes to.
pub(crate) type Outcome<T = ExitCode> = Result<T, Failure>;

impl Failure {
    /// The exit code.
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Self::OutputClosed => ExitCode::SUCCESS,
            Self::Other(_) => FAILED.into(),
            Self::Usage(_) => USAGE.into(),
            Self::Unreachable { .. } => UNREACHABLE.into(),
            Self::NotFound(_) => NOT_FOUND.into(),
            Self::Unavailable(_) => UNAVAILABLE.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { socket, why } => {
                let socket = socket.display();
                writeln!(f, "no agent answers at {socket}: {why}")?;
                f.write_str(
                    "  start it:       mesh-agent --manifests DIR [--run-dir DIR]\n  \
                     or look where it runs: --run-dir DIR, or MILLRACE_RUN_DIR in the environment\n  \
                     the proxy serves on without it: l7proxy status [--run-dir DIR]",
                )
            }
            Self::NotFound(why) | Self::Unavailable(why) | Self::Usage(why) => f.write_str(why),
            Self::OutputClosed => f.write_str("the output was closed"),
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Other(error.into()),
        }
    }
}
