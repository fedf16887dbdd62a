//! Translations of whole sets of objects.

mod golden;
mod load;
mod mutate;
mod properties;

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mesh_ingress::{Config, Input, Mode, translate};
use mesh_model::NamespacedName;
use mesh_model::l7::Translation;

use crate::load::{World, documents};

/// The configuration of a case: `config.yaml` names what differs from the defaults.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct CaseConfig {
    shared: bool,
    no_enforce_https: bool,
    default_secret: Option<String>,
    request_timeout_seconds: Option<u64>,
    trusted_hops: u32,
}

impl CaseConfig {
    fn into_config(self) -> Config {
        let defaults = Config::default();
        Config {
            default_mode: if self.shared { Mode::Shared } else { Mode::Dedicated },
            enforce_https: !self.no_enforce_https,
            default_secret: self.default_secret.map(|name| NamespacedName::new("default", name)),
            request_timeout: self.request_timeout_seconds.map(Duration::from_secs),
            trusted_hops: self.trusted_hops,
            ..defaults
        }
    }
}

fn run(world: &World, config: &Config) -> Translation {
    let input =
        Input { objects: &world.objects, services: &world.services, certificates: &world.certificates };
    translate(&input, config)
}

#[test]
fn golden_folders_translate_to_what_they_hold() -> Result<()> {
    let cases = golden::cases()?;
    ensure!(cases.len() >= 15, "only {} cases found", cases.len());
    let mut differences = Vec::new();
    for case in cases {
        let input =
            fs::read_to_string(case.join("input.yaml")).with_context(|| case.display().to_string())?;
        let world = documents(&input).and_then(World::read).with_context(|| case.display().to_string())?;
        let config = match fs::read_to_string(case.join("config.yaml")) {
            Ok(text) => serde_saphyr::from_str::<CaseConfig>(&text)?,
            Err(_) => CaseConfig::default(),
        };
        differences.extend(golden::check(&case, &run(&world, &config.into_config()))?);
    }
    ensure!(differences.is_empty(), "{}\nBLESS=1 writes the files anew", differences.join("\n"));
    Ok(())
}
