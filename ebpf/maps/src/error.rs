//! What can go wrong with a map.

use std::path::PathBuf;

/// Why an operation on a map failed. Messages name the map and, where there is one, the key.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The map is not pinned there, or may not be opened.
    #[error("map {map} cannot be opened at {path}: load the datapath first, as root")]
    Open {
        /// The map.
        map: &'static str,
        /// Where it should be pinned.
        path: PathBuf,
        /// The kernel's word.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// What is pinned there is another kind of map, or one made by a version with other sizes.
    #[error(
        "map {map} at {path} has {field} {found}, this version needs {expected}: \
         remove the pin (or run the clean-up of this pin root) and load again"
    )]
    Layout {
        /// The map.
        map: &'static str,
        /// Where it is pinned.
        path: PathBuf,
        /// What differs.
        field: &'static str,
        /// What is there.
        found: String,
        /// What this version is built for.
        expected: String,
    },
    /// An operation on one key failed.
    #[error("map {map}: cannot {operation} {key}")]
    Key {
        /// The map.
        map: &'static str,
        /// `read`, `write` or `remove`.
        operation: &'static str,
        /// The key, for people.
        key: String,
        /// The kernel's word.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// Going through all entries failed.
    #[error("map {map}: cannot list the entries")]
    List {
        /// The map.
        map: &'static str,
        /// The kernel's word.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// An entry more than the map has room for.
    #[error(
        "map {map} is full with {entries} entries: cannot write {key}: remove Services or endpoints that are \
         not needed; it is tried again by itself"
    )]
    Full {
        /// The map.
        map: &'static str,
        /// Its size.
        entries: u32,
        /// The key, for people.
        key: String,
    },
    /// More proxy threads than the listeners map has room for.
    #[error("{threads} proxy threads are more than the {most} that the listeners map has room for")]
    TooManyThreads {
        /// Threads asked for.
        threads: usize,
        /// Threads possible.
        most: u32,
    },
}
