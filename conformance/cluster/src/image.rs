//! Container images out of static programs, without a container engine: an OCI image layout in a tar file, with
//! one layer.
//!
//! Follows the OCI image specification 1.1. Cost: the programs are read whole.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::programs::Programs;

/// What holds a pod's namespaces.
pub const PAUSE: &str = "millrace.test/pause:1";
/// Kubernetes' own test program: servers and clients of many kinds (`agnhost --help`).
pub const AGNHOST: &str = "millrace.test/agnhost:1";
/// The echo server of the Gateway API's conformance suite.
pub const ECHO: &str = "millrace.test/echo-basic:1";

/// Images that every node has: a program, its arguments, the reference.
const OURS: &[(&str, &[&str], &str)] =
    &[("pause", &[], PAUSE), ("agnhost", &["pause"], AGNHOST), ("echo-basic", &[], ECHO)];

const OCI: &str = "application/vnd.oci.image";

/// An image of static programs.
#[derive(Clone, Debug)]
pub struct Image {
    /// Full reference, such as `millrace.test/name:tag`.
    pub reference: String,
    /// Programs, each placed in the root under its own name. The first is what is run.
    pub programs: Vec<PathBuf>,
    /// Arguments where a pod gives none.
    pub arguments: Vec<String>,
}

impl Image {
    /// Writes it as a tar file.
    ///
    /// # Errors
    /// A program cannot be read, or the file not written.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let entry = file_name(self.programs.first().context("an image needs a program")?)?;
        let layer = self.layer()?;
        let diff = digest(&layer);
        let config = serde_json::to_vec(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": [format!("/{entry}")], "Cmd": self.arguments, "Env": ["PATH=/"]},
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
        let mut tmp = tar::Header::new_ustar();
        tmp.set_entry_type(tar::EntryType::Directory);
        tmp.set_mode(0o1777);
        tmp.set_size(0);
        tar.append_data(&mut tmp, "tmp/", std::io::empty())?;
        for program in &self.programs {
            let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
            append(&mut tar, &file_name(program)?, &bytes, 0o755)?;
        }
        Ok(tar.into_inner()?)
    }
}

/// Files of the images that every node has, written beside the programs where they are missing or older.
pub(crate) fn ours(programs: &Programs) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for &(name, arguments, reference) in OURS {
        let program = programs.find(name)?;
        let file = program.with_extension("oci.tar");
        let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        if changed(&file) < changed(&program) {
            let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
            let image = Image { reference: reference.to_owned(), programs: vec![program], arguments };
            image.write(&file)?;
        }
        files.push(file);
    }
    Ok(files)
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut header = tar::Header::new_ustar();
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
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    #[test]
    fn an_image_names_its_program_and_every_digest_is_that_of_its_blob() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("prog");
        fs::write(&program, b"a static program").expect("written");
        let file = folder.path().join("image.tar");
        let image = Image {
            reference: "millrace.test/prog:7".to_owned(),
            programs: vec![program],
            arguments: vec!["serve".to_owned()],
        };
        image.write(&file).expect("an image");

        let mut entries = BTreeMap::new();
        for entry in tar::Archive::new(File::open(&file).expect("there")).entries().expect("a tar") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("whole");
            entries.insert(path, bytes);
        }
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().expect("a digest");
            let bytes = &entries[&format!("blobs/{}", digest.replace(':', "/"))];
            assert_eq!(super::digest(bytes), digest);
            assert_eq!(descriptor["size"], bytes.len());
            bytes.clone()
        };
        let index: Value = serde_json::from_slice(&entries["index.json"]).expect("JSON");
        let first = &index["manifests"][0];
        assert_eq!(first["annotations"]["io.containerd.image.name"], "millrace.test/prog:7");
        let manifest: Value = serde_json::from_slice(&blob(first)).expect("JSON");
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).expect("JSON");
        assert_eq!(config["config"]["Entrypoint"][0], "/prog");
        assert_eq!(config["config"]["Cmd"][0], "serve");
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        let layer = blob(&manifest["layers"][0]);
        assert!(layer.windows(16).any(|window| window == b"a static program"));
    }
}
