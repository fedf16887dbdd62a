//! Where the sockets are when nobody says.

use std::path::PathBuf;

/// `/run/millrace` for root; for others `millrace` in their `$XDG_RUNTIME_DIR`, or a folder of their own in
/// `/tmp`. The agent, the proxy and the command line tool look for each other here.
pub fn default_run_dir() -> PathBuf {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return PathBuf::from("/run/millrace");
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) => PathBuf::from(folder).join("millrace"),
        None => PathBuf::from(format!("/tmp/millrace-{}", user.as_raw())),
    }
}
