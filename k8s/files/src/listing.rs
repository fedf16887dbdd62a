//! Which files a folder shows, and where their bytes lie.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::problem::Problem;

/// How deep folders may lie in one another.
const DEPTH: usize = 32;

/// How many symbolic links one path may lead through, as in the kernel.
const LINKS: usize = 40;

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// A file with manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The file with all symbolic links followed.
    pub(crate) real: PathBuf,
    /// Its version.
    pub(crate) stamp: Stamp,
}

/// A folder to watch, and which folder it was when it was listed: one that was removed and made again has
/// another inode.
pub(crate) type WatchedFolders = BTreeMap<PathBuf, (u64, u64)>;

/// What an event at some path is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Concern {
    /// These files, by their visible paths, whether or not they exist.
    Files(BTreeSet<PathBuf>),
    /// Which files there are.
    Structure,
    /// Something else that lies near by.
    Nothing,
}

/// All files that a folder shows at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    /// Files by the path that the user sees. Of several paths to one file the first is here.
    pub(crate) files: BTreeMap<PathBuf, Found>,
    /// Folders whose events matter, without symbolic links in their paths.
    pub(crate) folders: WatchedFolders,
    /// What could not be looked at. What lies below such a path is unknown rather than gone.
    pub(crate) problems: Vec<Problem>,
    /// The visible files at each place where bytes or names of them lie.
    places: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    /// Symbolic links on the way, and the first part of the root's path that does not exist.
    crossings: BTreeSet<PathBuf>,
    /// The visible path of each listed folder.
    visible: BTreeMap<PathBuf, PathBuf>,
}

impl Listing {
    /// Lists `root`, a folder or one file. Hidden files and what editors leave lying about are passed over;
    /// symbolic links are followed, so the links that a ConfigMap volume shows are files and the hidden
    /// folders they lead through are not. Costs a `stat` for each entry.
    pub(crate) fn of(root: &Path) -> Self {
        let mut listing = Self::default();
        let mut seen = BTreeSet::new();
        match fs::metadata(root) {
            Ok(meta) if meta.is_dir() => {
                listing.folder(root, 0, &mut seen, &mut Vec::new());
            }
            Ok(meta) if meta.is_file() => listing.file(root, &meta, &mut seen),
            Ok(_) => listing.problems.push(Problem::of_file(
                root,
                "it is neither a folder nor a file".to_owned(),
                "name a folder with manifests",
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => listing.problems.push(Problem::of_file(
                root,
                "it does not exist".to_owned(),
                "make the folder and put manifests in; it is read as soon as it is there",
            )),
            Err(error) => listing.unreadable(root, &error),
        }
        listing.crossings(root);
        listing
    }

    /// What an event at `path` is about.
    pub(crate) fn concern(&self, path: &Path) -> Concern {
        if let Some(files) = self.places.get(path) {
            return Concern::Files(files.clone());
        }
        let visible = path.parent().and_then(|folder| self.visible.get(folder));
        match (visible, path.file_name()) {
            (Some(folder), Some(name)) if is_manifest(path) && !self.folders.contains_key(path) => {
                Concern::Files(BTreeSet::from([folder.join(name)]))
            }
            (Some(_), _) => Concern::Structure,
            _ if self.crossings.contains(path) || self.folders.contains_key(path) => Concern::Structure,
            _ => Concern::Nothing,
        }
    }

    fn folder(
        &mut self,
        path: &Path,
        depth: usize,
        seen: &mut BTreeSet<(u64, u64)>,
        above: &mut Vec<PathBuf>,
    ) {
        let entries = fs::canonicalize(path).and_then(|real| Ok((fs::read_dir(path)?, real)));
        let (entries, real) = match entries {
            Ok(opened) => opened,
            Err(error) => return self.unreadable(path, &error),
        };
        // A link to a folder above would go round for ever.
        if depth > DEPTH || above.contains(&real) {
            return;
        }
        self.watch(&real);
        self.visible.entry(real.clone()).or_insert_with(|| path.to_owned());
        above.push(real);
        let mut names: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            if is_hidden(Path::new(&name)) {
                continue;
            }
            let path = path.join(name);
            match fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => self.folder(&path, depth + 1, seen, above),
                Ok(meta) if meta.is_file() && is_manifest(&path) => self.file(&path, &meta, seen),
                Ok(_) => {}
                // It went away since the folder was read, or is a link to nothing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.dangling(&path),
                Err(error) if is_manifest(&path) => self.unreadable(&path, &error),
                Err(_) => {}
            }
        }
        above.pop();
    }

    fn file(&mut self, path: &Path, meta: &Metadata, seen: &mut BTreeSet<(u64, u64)>) {
        if !seen.insert((meta.dev(), meta.ino())) {
            return;
        }
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.unreadable(path, &error),
        };
        let named = path.parent().and_then(|parent| fs::canonicalize(dot(parent)).ok()).zip(path.file_name());
        let named = named.map(|(folder, name)| folder.join(name));
        if named.as_ref() != Some(&real) {
            self.crossings(path);
        }
        for place in [named.as_ref(), Some(&real)].into_iter().flatten() {
            if let Some(folder) = place.parent() {
                self.watch(folder);
            }
            self.places.entry(place.clone()).or_default().insert(path.to_owned());
        }
        self.files.insert(path.to_owned(), Found { real, stamp: Stamp::of(meta) });
    }

    /// A link to nothing is not a removed file: its target may be just being replaced.
    fn dangling(&mut self, path: &Path) {
        if !is_manifest(path) || !path.is_symlink() {
            return;
        }
        self.crossings(path);
        self.problems.push(Problem::of_file(
            path,
            "it is a link to something that does not exist; what it held before stays served".to_owned(),
            "put the target back, or remove the link",
        ));
    }

    /// Watches every symbolic link on the way to `path`, and where the way ends before its goal, so that a
    /// link which is pointed elsewhere, or a goal that comes to be, is seen.
    fn crossings(&mut self, path: &Path) {
        let Ok(path) = std::path::absolute(path) else { return };
        let mut rest: VecDeque<OsString> = path.iter().map(OsStr::to_owned).collect();
        let mut at = PathBuf::new();
        let mut links = 0;
        while let Some(step) = rest.pop_front() {
            if step == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&step);
            let last = rest.is_empty();
            match fs::read_link(&next) {
                Ok(target) => {
                    self.watch(&at);
                    self.crossings.insert(next);
                    links += 1;
                    if links > LINKS {
                        return;
                    }
                    target.iter().rev().for_each(|part| rest.push_front(part.to_owned()));
                }
                // The root is watched from above, to see it come and go.
                Err(_) if last || !next.exists() => {
                    self.watch(&at);
                    self.crossings.insert(next);
                    return;
                }
                Err(_) => at = next,
            }
        }
    }

    fn watch(&mut self, folder: &Path) {
        if let Ok(meta) = fs::metadata(folder) {
            self.folders.insert(folder.to_owned(), (meta.dev(), meta.ino()));
        }
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let message = format!("it cannot be read: {error}");
        self.problems.push(Problem::of_file(path, message, "let the user that runs the agent read it"));
    }
}

/// The empty path is the current folder.
fn dot(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Hidden files and folders, among them `..data` of ConfigMap volumes and `.name.swp` of editors.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// A visible name that ends in `.yaml`, `.yml` or `.json`; editors' `name.yaml~` and `#name.yaml#` do not count.
fn is_manifest(path: &Path) -> bool {
    let editor = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"#"));
    !editor && !is_hidden(path) && path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
}
