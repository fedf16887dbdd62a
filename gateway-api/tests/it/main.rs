//! Translations of whole sets of objects.

// One harness for the golden folders of both translators.
#[path = "../../../ingress/tests/it/golden.rs"]
mod golden;
#[path = "../../../ingress/tests/it/load.rs"]
mod load;
#[path = "../../../ingress/tests/it/mutate.rs"]
mod mutate;
mod properties;

use std::fs;

use anyhow::{Context as _, Result, ensure};
use mesh_gateway_api::{Config, Input, translate};
use mesh_model::l7::Translation;

use crate::load::{World, documents};

fn run(world: &World) -> Translation {
    let input =
        Input { objects: &world.objects, services: &world.services, certificates: &world.certificates };
    translate(&input, &Config::default())
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
        differences.extend(golden::check(&case, &run(&world))?);
    }
    ensure!(differences.is_empty(), "{}\nBLESS=1 writes the files anew", differences.join("\n"));
    Ok(())
}
