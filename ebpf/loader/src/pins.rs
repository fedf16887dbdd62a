//! Where what is pinned: maps in the pin root by name, programs in `progs`, links in `links`.
//!
//! Names on a BPF file system have no dots.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::device::DeviceKind;
use crate::error::LoadError;
use crate::programs::Direction;

/// The folders of one datapath.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    root: PathBuf,
}

impl Pins {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn programs(&self) -> PathBuf {
        self.root.join("progs")
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    pub(crate) fn link(&self, name: &str) -> PathBuf {
        self.links().join(name)
    }

    pub(crate) fn create(&self) -> Result<(), LoadError> {
        for folder in [self.programs(), self.links()] {
            fs::create_dir_all(&folder).map_err(pin_error(&folder, "created"))?;
        }
        Ok(())
    }

    /// All devices that programs were attached to. A missing folder has none.
    pub(crate) fn devices(&self) -> Result<Vec<DevicePin>, LoadError> {
        let mut devices: Vec<_> =
            names(&self.links())?.iter().filter_map(|name| DevicePin::parse(name)).collect();
        devices.sort_unstable();
        Ok(devices)
    }
}

/// Names in a folder, sorted; none if it is missing.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, LoadError> {
    let list = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(pin_error(folder, "listed")),
    }
}

/// Puts a new pin in the place of an old one, if there is one, in one step.
pub(crate) fn replace(
    path: &Path,
    pin: impl FnOnce(&Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
) -> Result<(), LoadError> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push("_new");
    let fresh = PathBuf::from(fresh);
    remove(&fresh)?;
    pin(&fresh).map_err(|source| LoadError::Pin {
        path: path.to_owned(),
        action: "created",
        source: io::Error::other(source),
    })?;
    fs::rename(&fresh, path).map_err(pin_error(path, "created"))
}

/// Removes a pin; false if there was none.
pub(crate) fn remove(path: &Path) -> Result<bool, LoadError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(pin_error(path, "removed")(error)),
    }
}

pub(crate) fn pin_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> LoadError {
    let path = path.to_owned();
    move |source| LoadError::Pin { path, action, source }
}

/// What a device's pin pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AttachmentPin {
    Link,
    Filter,
}

/// A device's pin: of its link (tcx), or of the program that stands for its filter (clsact).
///
/// Its name carries the kind, so that a reload knows which program goes there, and the index, because
/// devices' names change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DevicePin {
    pub(crate) attachment: AttachmentPin,
    pub(crate) kind: DeviceKind,
    pub(crate) direction: Direction,
    pub(crate) index: u32,
}

impl std::fmt::Display for DevicePin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let attachment = match self.attachment {
            AttachmentPin::Link => "tcx",
            AttachmentPin::Filter => "clsact",
        };
        let kind = match self.kind {
            DeviceKind::Ethernet => "l2",
            DeviceKind::Ip => "l3",
            DeviceKind::Pod => "pod",
            DeviceKind::Tunnel => "tunnel",
        };
        // Nothing for ingress: so the names were when there was no other.
        let direction = match self.direction {
            Direction::Ingress => "",
            Direction::Egress => "out",
        };
        write!(f, "{attachment}_{kind}{direction}_{}", self.index)
    }
}

impl DevicePin {
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('_');
        let attachment = match parts.next()? {
            "tcx" => AttachmentPin::Link,
            "clsact" => AttachmentPin::Filter,
            _ => return None,
        };
        let (kind, direction) = match parts.next()? {
            "l2" => (DeviceKind::Ethernet, Direction::Ingress),
            "l2out" => (DeviceKind::Ethernet, Direction::Egress),
            "l3" => (DeviceKind::Ip, Direction::Ingress),
            "l3out" => (DeviceKind::Ip, Direction::Egress),
            "pod" => (DeviceKind::Pod, Direction::Ingress),
            "podout" => (DeviceKind::Pod, Direction::Egress),
            "tunnel" => (DeviceKind::Tunnel, Direction::Ingress),
            "tunnelout" => (DeviceKind::Tunnel, Direction::Egress),
            _ => return None,
        };
        let index = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Self { attachment, kind, direction, index })
    }
}

#[cfg(test)]
mod tests;
