//! The ranges of this node's pods, kept over a restart of the agent.
//!
//! Without this file an agent that starts while the API server is away would not know whose packets it masquerades,
//! and would cut what pods have open to the outside.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;

use ipnet::IpNet;

use crate::run_dir;

/// The file.
#[derive(Debug)]
pub(crate) struct KeptRanges {
    path: PathBuf,
}

impl KeptRanges {
    /// The file of this name.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// What an earlier agent had. One that is missing or damaged holds nothing.
    pub(crate) fn read(&self) -> Vec<IpNet> {
        let read = || -> io::Result<Vec<IpNet>> {
            let file = run_dir::open(&self.path, File::options().read(true))?;
            Ok(serde_json::from_reader(BufReader::new(file))?)
        };
        match read() {
            Ok(ranges) => ranges,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let file = self.path.display();
                tracing::warn!(%file, %error, "the ranges of an earlier agent are not known any more");
                Vec::new()
            }
        }
    }

    /// Puts a new file in the place of the old one.
    pub(crate) fn write(&self, ranges: &[IpNet]) {
        let written = serde_json::to_vec(ranges)
            .map_err(io::Error::from)
            .and_then(|bytes| run_dir::replace(&self.path, &bytes));
        if let Err(error) = written {
            tracing::warn!(file = %self.path.display(), %error, "the pods' ranges cannot be kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::KeptRanges;

    #[test]
    fn ranges_outlive_the_agent_and_a_damaged_file_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pod-ranges.json");
        let kept = KeptRanges::at(path.clone());
        assert!(kept.read().is_empty());
        let ranges = ["10.0.1.0/24", "fd00::/64"].map(|text| text.parse().expect("a range"));
        kept.write(&ranges);
        assert_eq!(KeptRanges::at(path.clone()).read(), ranges);
        fs::write(&path, "[{").expect("room");
        assert!(kept.read().is_empty());
    }
}
