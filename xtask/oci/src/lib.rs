//! Container images without a container engine: an OCI image layout in a tar file, with one layer.
//!
//! In: files and where they lie in the image. Out: an archive that `ctr images import` and `skopeo` take. The same files
//! give the same bytes. Follows the OCI image specification 1.1. Start reading in [`Image::write`]; [`libraries`] says
//! what a program that is not static needs beside it. No tasks. Cost: the files are read whole.

mod libraries;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use crate::libraries::libraries;

const OCI: &str = "application/vnd.oci.image";

/// An image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Full reference, such as `millrace.test/name:tag`.
    pub reference: String,
    /// What is in it.
    pub files: Vec<Entry>,
    /// What is run: a path in the image, and arguments that a pod does not replace.
    pub entrypoint: Vec<String>,
    /// Arguments where a pod gives none.
    pub arguments: Vec<String>,
    /// Where programs are found by name.
    pub path: String,
}

/// A file of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Where it lies in the image, without the leading slash.
    pub path: String,
    /// What it is.
    pub content: Content,
    /// Its mode.
    pub mode: u32,
}

/// What a file of an image is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// A copy of this file.
    File(PathBuf),
    /// A symbolic link to this path.
    Link(PathBuf),
    /// A folder; those that files need are made by themselves.
    Folder,
}

impl Entry {
    /// A program, or a library, at a path of the image.
    pub fn program(path: impl Into<String>, source: impl Into<PathBuf>) -> Self {
        Self::at(path, Content::File(source.into()), 0o755)
    }

    /// A file that is only read.
    pub fn data(path: impl Into<String>, source: impl Into<PathBuf>) -> Self {
        Self::at(path, Content::File(source.into()), 0o644)
    }

    /// A symbolic link.
    pub fn link(path: impl Into<String>, target: impl Into<PathBuf>) -> Self {
        Self::at(path, Content::Link(target.into()), 0o777)
    }

    fn at(path: impl Into<String>, content: Content, mode: u32) -> Self {
        Self { path: path.into().trim_start_matches('/').to_owned(), content, mode }
    }

    /// Everything below a folder, which becomes the image's root. Devices and sockets are left out.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn tree(root: &Path) -> anyhow::Result<Vec<Self>> {
        let mut entries = Vec::new();
        let mut open = vec![root.to_owned()];
        while let Some(folder) = open.pop() {
            let list = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
            for found in list {
                let path = found?.path();
                let metadata = fs::symlink_metadata(&path)?;
                let content = match metadata.file_type() {
                    kind if kind.is_dir() => Content::Folder,
                    kind if kind.is_symlink() => Content::Link(fs::read_link(&path)?),
                    kind if kind.is_file() => Content::File(path.clone()),
                    _ => continue,
                };
                let name = path.strip_prefix(root).context("it is below the root")?.to_string_lossy();
                entries.push(Self::at(name, content, metadata.permissions().mode() & 0o7777));
                if metadata.is_dir() {
                    open.push(path);
                }
            }
        }
        entries.sort();
        Ok(entries)
    }
}

impl Image {
    /// One of static programs, each in the root under its own name. The first is what is run.
    ///
    /// # Errors
    /// There is no program, or a path names no file.
    pub fn of_programs(
        reference: impl Into<String>,
        programs: &[PathBuf],
        arguments: Vec<String>,
    ) -> anyhow::Result<Self> {
        let files: Vec<Entry> = programs
            .iter()
            .map(|program| Ok(Entry::program(file_name(program)?, program)))
            .collect::<anyhow::Result<_>>()?;
        let first = files.first().context("an image needs a program")?;
        let entrypoint = vec![format!("/{}", first.path)];
        Ok(Self { reference: reference.into(), files, entrypoint, arguments, path: "/".to_owned() })
    }

    /// Writes it as a tar file.
    ///
    /// # Errors
    /// A file cannot be read, or the archive not written.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let layer = self.layer()?;
        let diff = digest(&layer);
        let config = serde_json::to_vec(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Cmd": self.arguments,
                "Env": [format!("PATH={}", self.path)],
            },
            "rootfs": {"type": "layers", "diff_ids": [diff]},
        }))?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": format!("{OCI}.manifest.v1+json"),
            "config": descriptor("config.v1+json", &config),
            "layers": [descriptor("layer.v1.tar", &layer)],
        }))?;
        let mut described = descriptor("manifest.v1+json", &manifest);
        let tag = self.reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        described["annotations"] = json!({
            "io.containerd.image.name": self.reference,
            "org.opencontainers.image.ref.name": tag,
        });
        let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [described]}))?;
        let new = file.with_extension("new");
        let out = File::create(&new).with_context(|| format!("cannot write {}", new.display()))?;
        let mut tar = tar::Builder::new(BufWriter::new(out));
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
        append(&mut tar, "index.json", &index, 0o644)?;
        for blob in [&manifest, &config, &layer] {
            let name = digest(blob).replace(':', "/");
            append(&mut tar, &format!("blobs/{name}"), blob, 0o644)?;
        }
        tar.into_inner()?.flush()?;
        fs::rename(&new, file).with_context(|| format!("cannot write {}", file.display()))
    }

    fn layer(&self) -> anyhow::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        folder(&mut tar, "tmp/", 0o1777)?;
        let mut made = BTreeSet::from([PathBuf::from("tmp")]);
        for Entry { path, content, mode } in &self.files {
            let parents: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
            for parent in parents.into_iter().rev().filter(|parent| *parent != Path::new("")) {
                if made.insert(parent.to_owned()) {
                    folder(&mut tar, &format!("{}/", parent.display()), 0o755)?;
                }
            }
            match content {
                Content::File(source) => {
                    let bytes =
                        fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
                    append(&mut tar, path, &bytes, *mode)?;
                }
                Content::Link(target) => {
                    let mut header = tar::Header::new_gnu();
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(*mode);
                    header.set_size(0);
                    tar.append_link(&mut header, path, target)
                        .with_context(|| format!("cannot add {path} to the image"))?;
                }
                Content::Folder => {
                    if made.insert(PathBuf::from(path)) {
                        folder(&mut tar, &format!("{path}/"), *mode)?;
                    }
                }
            }
        }
        Ok(tar.into_inner()?)
    }
}

fn folder<W: Write>(tar: &mut tar::Builder<W>, path: &str, mode: u32) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(mode);
    header.set_size(0);
    tar.append_data(&mut header, path, std::io::empty())
        .with_context(|| format!("cannot add {path} to the image"))
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, path, bytes).with_context(|| format!("cannot add {path} to the image"))
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": format!("{OCI}.{kind}"), "digest": digest(bytes), "size": bytes.len()})
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn file_name(path: &Path) -> anyhow::Result<String> {
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    Ok(name.to_string_lossy().into_owned())
}

/// As the specification writes this machine's.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests;
