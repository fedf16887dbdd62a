//! The compiled configuration at one moment.

/// Everything the data path needs, immutable. Parts are shared between successive snapshots.
#[derive(Debug, Default)]
pub struct Snapshot {
    revision: u64,
}

impl Snapshot {
    /// Rises with every change. Unique within one [`crate::ConfigStore`].
    pub fn revision(&self) -> u64 {
        self.revision
    }
}
