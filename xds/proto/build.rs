//! Embeds the descriptors of envoy-types' messages, and from them a table of which message holds which.
//!
//! The envoy-types package carries the descriptor set its structs were generated from, as
//! `src/generated/types.bin`, but exports no path to it. `cargo metadata` knows where the package
//! lies; asking it about a manifest with that one dependency, beside a copy of our lock file, needs
//! nothing that this build has not already fetched, so it works offline and in a clean clone.
//!
//! Source information (comments, three quarters of the bytes) is left out on the wire level:
//! decoding into prost's own descriptor types would drop the options that mark sensitive fields.

#[path = "build/shapes.rs"]
mod shapes;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Kept equal to the workspace's requirement by a test, so that a cached build script run cannot
/// leave the descriptors of an older release behind.
const ENVOY_TYPES: &str = "0.7.7";

/// `FileDescriptorSet.file`.
const FILE: u64 = 1;
/// `FileDescriptorProto.source_code_info`.
const SOURCE_CODE_INFO: u64 = 9;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let set = package_folder(&out).join("src/generated/types.bin");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build/shapes.rs");
    println!("cargo:rerun-if-changed={}", set.display());
    println!("cargo:rustc-env=ENVOY_TYPES_VERSION={ENVOY_TYPES}");

    let bytes = fs::read(&set).unwrap_or_else(|error| {
        panic!("envoy-types {ENVOY_TYPES} has no descriptor set at {}: {error}", set.display())
    });
    fs::write(out.join("descriptors.bin"), without_source_info(&bytes)).expect("OUT_DIR is writable");
    fs::write(out.join("shapes.rs"), shapes::table(&bytes)).expect("OUT_DIR is writable");
}

/// The folder of the envoy-types package that this build links.
fn package_folder(out: &Path) -> PathBuf {
    let room = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let probe = out.join("probe");
    fs::create_dir_all(probe.join("src")).expect("OUT_DIR is writable");
    fs::write(probe.join("src/lib.rs"), "").expect("OUT_DIR is writable");
    fs::write(
        probe.join("Cargo.toml"),
        format!(
            "[workspace]\n[package]\nname = \"probe\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
             [dependencies]\nenvoy-types = \"={ENVOY_TYPES}\"\n"
        ),
    )
    .expect("OUT_DIR is writable");
    if let Some(lock) = room.ancestors().map(|folder| folder.join("Cargo.lock")).find(|file| file.exists()) {
        fs::copy(lock, probe.join("Cargo.lock")).expect("OUT_DIR is writable");
    }

    let output = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"))
        .args(["metadata", "--offline", "--format-version", "1", "--filter-platform"])
        .arg(env::var_os("TARGET").expect("cargo sets TARGET"))
        .arg("--manifest-path")
        .arg(probe.join("Cargo.toml"))
        // The clone's `.cargo/config.toml`, where sources may be replaced, is found from here.
        .current_dir(&room)
        .output()
        .expect("cargo can be run");
    assert!(
        output.status.success(),
        "cargo metadata could not find envoy-types {ENVOY_TYPES}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "envoy-types")
        .and_then(|package| package["manifest_path"].as_str())
        .expect("envoy-types is a dependency of the probe");
    Path::new(manifest).parent().expect("a manifest lies in a folder").to_owned()
}

/// The same `FileDescriptorSet` without the `source_code_info` of its files.
fn without_source_info(set: &[u8]) -> Vec<u8> {
    let mut stripped = Vec::with_capacity(set.len() / 3);
    for (number, _, file) in fields(set) {
        assert_eq!(number, FILE, "a descriptor set has one kind of field");
        let kept: Vec<&[u8]> = fields(file.payload)
            .filter(|(number, ..)| *number != SOURCE_CODE_INFO)
            .map(|(_, whole, _)| whole)
            .collect();
        stripped.push(u8::try_from(FILE << 3 | 2).expect("a small key"));
        write_varint(&mut stripped, kept.iter().map(|field| field.len() as u64).sum());
        kept.iter().for_each(|field| stripped.extend_from_slice(field));
    }
    stripped
}

struct Body<'a> {
    payload: &'a [u8],
}

/// The fields of a message: number, all bytes with the key, payload of a length-delimited one.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, &[u8], Body<'_>)> {
    std::iter::from_fn(move || {
        if message.is_empty() {
            return None;
        }
        let whole = message;
        let key = read_varint(&mut message);
        let payload = match key & 7 {
            0 => {
                read_varint(&mut message);
                &[][..]
            }
            1 => message.split_off(..8).expect("eight bytes of a fixed64"),
            2 => {
                let length = usize::try_from(read_varint(&mut message)).expect("a length");
                message.split_off(..length).expect("as many bytes as said")
            }
            5 => message.split_off(..4).expect("four bytes of a fixed32"),
            kind => panic!("wire type {kind} in a descriptor set"),
        };
        Some((key >> 3, &whole[..whole.len() - message.len()], Body { payload }))
    })
}

fn read_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first().expect("a varint ends before the message");
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint of more than ten bytes")
}

fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value as u8) | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
