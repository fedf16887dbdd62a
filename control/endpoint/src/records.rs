//! Endpoints on disk: one file each, below the run directory, so that they go with a reboot as the pods do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::endpoint::Endpoint;
use crate::error::EndpointError;

/// The folder of the records.
#[derive(Debug)]
pub(crate) struct Records {
    folder: PathBuf,
}

impl Records {
    /// The folder, made if it is missing, for root's eyes alone.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, EndpointError> {
        let made = fs::create_dir_all(&folder).and_then(|()| {
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            fs::set_permissions(&folder, private)
        });
        made.map_err(|reason| EndpointError::Record { path: folder.clone(), reason })?;
        Ok(Self { folder })
    }

    /// Every record that can be read, and why others cannot. Those are moved aside: their endpoints are unknown from
    /// then on.
    pub(crate) fn read(&self) -> Result<(Vec<Endpoint>, Vec<EndpointError>), EndpointError> {
        let entries = fs::read_dir(&self.folder).map_err(|reason| at(&self.folder, reason))?;
        let (mut endpoints, mut unreadable) = (Vec::new(), Vec::new());
        for entry in entries {
            let path = entry.map_err(|reason| at(&self.folder, reason))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let read = fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
            match read {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(reason) => {
                    let _ = fs::rename(&path, path.with_extension("unreadable"));
                    unreadable.push(at(&path, reason));
                }
            }
        }
        Ok((endpoints, unreadable))
    }

    /// Writes a record whole or not at all.
    pub(crate) fn write(&self, endpoint: &Endpoint) -> Result<(), EndpointError> {
        let path = self.path(endpoint);
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            serde_json::to_writer_pretty(&mut file, endpoint)?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|reason| at(&path, reason))
    }

    /// Removes a record; no error when it is not there.
    pub(crate) fn remove(&self, endpoint: &Endpoint) -> Result<(), EndpointError> {
        let path = self.path(endpoint);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path, error)),
            _ => Ok(()),
        }
    }

    fn path(&self, endpoint: &Endpoint) -> PathBuf {
        self.folder.join(format!("{}.json", endpoint.id))
    }
}

fn at(path: &Path, reason: io::Error) -> EndpointError {
    EndpointError::Record { path: path.to_owned(), reason }
}
