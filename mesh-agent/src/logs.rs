//! The logs of the proxy, kept from growing for ever.
//!
//! The agent opens them for the proxy, which has no right to open or rename a file. They are appended to, so
//! they can be emptied while they are written: what was in one is copied to `NAME.1` before.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::run_dir;

/// A log of so many bytes is emptied; with its copy it takes twice as much at most, and what is written between
/// two looks.
const LARGEST: u64 = 64 * 1024 * 1024;
/// How often sizes are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Log of the proxy's processes, in the run directory.
pub(crate) const PROXY_LOG: &str = "proxy.log";
/// Access log, in the run directory.
pub(crate) const ACCESS_LOG: &str = "access.log";

/// Opens a log for the proxy to append to.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    run_dir::open(path, File::options().create(true).append(true))
}

/// Looks after both logs until it is dropped.
pub(crate) async fn keep_small(run_dir: PathBuf) {
    let mut every = tokio::time::interval(LOOK);
    loop {
        every.tick().await;
        let run_dir = run_dir.clone();
        let looked = tokio::task::spawn_blocking(move || {
            for name in [PROXY_LOG, ACCESS_LOG] {
                let path = run_dir.join(name);
                if let Err(error) = rotate(&path, LARGEST) {
                    tracing::warn!(log = %path.display(), %error, "a log cannot be kept small");
                }
            }
        });
        if looked.await.is_err() {
            return;
        }
    }
}

/// Empties a log that has reached `largest` bytes; true when it did. Lines written between the last byte that
/// is copied and the emptying are lost, which is a few microseconds' worth.
fn rotate(path: &Path, largest: u64) -> io::Result<bool> {
    let mut log = match run_dir::open(path, File::options().read(true).write(true)) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let size = log.metadata()?.len();
    if size < largest {
        return Ok(false);
    }
    let mut copy = path.as_os_str().to_owned();
    copy.push(".1");
    let copied = copy_end(&mut log, size.saturating_sub(largest), Path::new(&copy));
    // A full disk is the last reason to let the log grow on: then the old lines go.
    if copied.is_err() {
        let _ = fs::remove_file(&copy);
    }
    log.set_len(0)?;
    copied.map(|()| true)
}

/// Copies a log from an offset on, and what is written to it meanwhile.
fn copy_end(log: &mut File, from: u64, to: &Path) -> io::Result<()> {
    let mut copy = run_dir::create(to)?;
    log.seek(SeekFrom::Start(from))?;
    io::copy(&mut log.take(LARGEST * 2), &mut copy).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::{open, rotate};

    #[test]
    fn a_log_that_has_grown_is_emptied_while_it_is_written_and_its_lines_are_kept_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let mut writer = open(&path).expect("a log");
        writer.write_all(b"one\ntwo\n").expect("room");
        assert!(!rotate(&path, 100).expect("a log"));
        assert!(rotate(&path, 8).expect("a log"));
        writer.write_all(b"three\n").expect("room");
        assert_eq!(fs::read_to_string(&path).expect("a log"), "three\n");
        assert_eq!(fs::read_to_string(folder.path().join("access.log.1")).expect("a copy"), "one\ntwo\n");
        assert!(!rotate(&folder.path().join("none"), 1).expect("no log is no error"));
    }
}
