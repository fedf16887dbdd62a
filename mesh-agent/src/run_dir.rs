//! The run directory, and the agent's own files in it.
//!
//! The proxy's user may make files there too, and the agent is root: a link or a pipe under one of the agent's
//! names must not lead it elsewhere, nor a file be believed that somebody else has written.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Context;
use rustix::fs::OFlags;

/// Makes the directory, for its owner alone; the starter shares it later with the proxy's user.
pub(crate) fn make(run_dir: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(run_dir)
        .with_context(|| format!("cannot make the run directory {}: set --run-dir", run_dir.display()))
}

/// Opens a file of ours as `options` say.
///
/// # Errors
/// What lies there is a link, no regular file, or somebody else's.
pub(crate) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // A pipe would keep the opening waiting for its other end.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.mode(0o600).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    let is_ours =
        metadata.is_file() && metadata.nlink() == 1 && metadata.uid() == rustix::process::geteuid().as_raw();
    match is_ours {
        true => Ok(file),
        false => Err(io::Error::other("it is not the agent's own file: remove it")),
    }
}

/// Makes a new file in the place of whatever had the name.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    open(path, File::options().write(true).create_new(true))
}

/// Puts a new file of these bytes in the place of one, at once.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    create(&new)?.write_all(bytes)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::{create, open, replace};

    #[test]
    fn links_in_the_place_of_our_files_lead_nowhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let (precious, ours) = (folder.path().join("precious"), folder.path().join("ours"));
        fs::write(&precious, "precious").expect("room");
        symlink(&precious, &ours).expect("a link");
        open(&ours, File::options().append(true).create(true)).expect_err("a link is not followed");
        drop(create(&ours).expect("a new file"));
        assert_eq!(fs::read_to_string(&ours).expect("a file"), "");
        symlink(&precious, ours.with_extension("new")).expect("a link");
        replace(&ours, b"new").expect("replaced");
        assert_eq!(fs::read_to_string(&ours).expect("a file"), "new");
        assert_eq!(fs::read_to_string(&precious).expect("a file"), "precious");
    }

    #[test]
    fn a_pipe_or_a_second_name_of_another_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let (precious, ours) = (folder.path().join("precious"), folder.path().join("ours"));
        fs::write(&precious, "precious").expect("room");
        fs::hard_link(&precious, &ours).expect("a second name");
        open(&ours, File::options().append(true)).expect_err("a second name of a file is refused");
        fs::remove_file(&ours).expect("it was there");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &ours,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a pipe");
        open(&ours, File::options().read(true)).expect_err("a pipe is refused, and nobody waits for it");
    }
}
