//! Golden files: `tests/golden/<case>/mesh.yaml` is what comes in, `conditions.yaml` who is told what, and
//! `envoy.yaml` what goes out. `BLESS=1` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};

use mesh_xds::lower::LowerConfig;
use mesh_xds::resolve::ResolveConfig;
use mesh_xds::server::ResourceSet;
use mesh_xds_proto::redact;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::mesh::Mesh;

pub(crate) mod cases;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn yaml(value: &impl Serialize) -> String {
    serde_saphyr::to_string(value).expect("rows and JSON can be written")
}

/// The rows, with addresses as a list because a structure cannot be a key in YAML.
fn mesh_yaml(mesh: &Mesh) -> String {
    let addresses: Vec<Value> = mesh
        .addresses
        .iter()
        .map(|(object, addresses)| json!({ "object": object.to_string(), "addresses": addresses }))
        .collect();
    let backends: Vec<Value> = mesh
        .backends
        .values()
        .flat_map(|service| {
            service.ports.iter().map(|((port, protocol), backends)| {
                json!({ "service": service.service, "port": port, "protocol": protocol, "backends": backends })
            })
        })
        .collect();
    let value = json!({
        "listeners": mesh.fragments.listeners,
        "routes": mesh.fragments.routes,
        "claims": mesh.fragments.claims,
        "addresses": addresses,
        "services": mesh.services.values().collect::<Vec<_>>(),
        "backends": backends,
        "certificates": mesh.certificates.iter().map(|(name, certificate)| match certificate {
            Ok(certificate) => json!({ "name": name, "chain": certificate.chain_pem, "key": certificate.key_pem }),
            Err(error) => json!({ "name": name, "error": error }),
        }).collect::<Vec<_>>(),
    });
    yaml(&value)
}

/// What a case lowers to. One with access logs is enough to read.
pub(crate) fn resources(name: &str, mesh: &Mesh, config: &ResolveConfig) -> ResourceSet {
    let lower = LowerConfig { access_log: name == "plain-listeners", ..Default::default() };
    mesh.lower_with(config, &lower)
}

/// Resources by short type name and name.
fn envoy_yaml(set: &ResourceSet) -> String {
    let mut types = Map::new();
    for (url, name, body) in set.iter() {
        let short = url.rsplit('.').next().unwrap_or(url).to_owned();
        let Value::Object(resources) = types.entry(short).or_insert_with(|| json!({})) else { continue };
        let mut printed = redact::encode_any(body);
        if let Value::Object(fields) = &mut printed {
            fields.remove("@type");
        }
        resources.insert(name.to_owned(), printed);
    }
    yaml(&Value::Object(types))
}

#[test]
fn every_case_lowers_to_its_golden_resources() {
    let bless = std::env::var_os("BLESS").is_some_and(|value| value == "1");
    let mut wrong = Vec::new();
    let cases = cases::all();
    for (name, mesh, config) in &cases {
        let folder = folder().join(name);
        for (file, text) in [
            ("mesh.yaml", mesh_yaml(mesh)),
            ("conditions.yaml", yaml(&mesh.resolve(config).conditions)),
            ("envoy.yaml", envoy_yaml(&resources(name, mesh, config))),
        ] {
            let path = folder.join(file);
            if bless {
                fs::create_dir_all(&folder).expect("the golden folder can be made");
                fs::write(&path, &text).expect("the golden file can be written");
            } else if fs::read_to_string(&path).unwrap_or_default() != text {
                wrong.push(format!("{name}/{file}"));
            }
        }
    }
    assert!(wrong.is_empty(), "differ from their golden files, see with BLESS=1 and git diff: {wrong:?}");

    let known: Vec<&str> = cases.iter().map(|(name, ..)| *name).collect();
    for entry in fs::read_dir(folder()).expect("the golden folder is there") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        assert!(known.contains(&name.as_str()), "tests/golden/{name} has no case any more");
    }
}
