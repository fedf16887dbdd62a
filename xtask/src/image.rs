//! The product's container images.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use mesh_oci::{Entry, Image, libraries};

use crate::{bpf, process};

/// Options of `image`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Cargo profile of the programs: `release`, or `demo`, which is built faster and for tests only.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Tag of both images.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
    /// Where the archives are put. `images` in cargo's target folder when left out.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Options {
    /// The images that tests use.
    pub(crate) fn for_tests() -> Self {
        let tag = env!("CARGO_PKG_VERSION").to_owned();
        Self { profile: "demo".to_owned(), tag, output: None }
    }
}

/// What both images of a release may have together, in bytes.
const LIMIT: u64 = 60 << 20;
/// What is built; the plugin as well, so that others' builds of the product share all they depend on.
const PACKAGES: [&str; 4] = ["mesh-agent", "mesh-l7proxy-daemon", "mesh-cli", "mesh-cni-plugin"];
/// Where the chart looks for them unless told otherwise.
const AGENT: &str = "localhost/millrace-agent";
const PROXY: &str = "localhost/millrace-proxy";

/// Where the archives are put unless told otherwise.
pub(crate) fn folder() -> PathBuf {
    process::target_dir().join("images")
}

/// Builds the programs and writes the archives; where they are.
pub(crate) fn run(options: &Options) -> anyhow::Result<Vec<PathBuf>> {
    let object = bpf::run(&bpf::Options::default())?;
    let profile = ["--profile", &options.profile];
    let mut build = process::cargo();
    build.args(["build", "--locked"]).args(profile);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    process::run(&mut build)?;
    let plugin = build_plugin(&profile)?;
    let built = process::target_dir().join(&options.profile);
    let folder = options.output.clone().unwrap_or_else(folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let [agent, cli, proxy] = ["mesh-agent", "millrace", "l7proxy"].map(|name| built.join(name));
    let agent_files = vec![
        Entry::program("usr/bin/mesh-agent", &agent),
        Entry::program("usr/bin/millrace", &cli),
        Entry::program("usr/lib/millrace/millrace-cni", plugin),
        Entry::data("usr/lib/millrace/millrace.o", object),
    ];
    let images = [
        image(AGENT, options, agent_files, &[agent, cli])?,
        image(PROXY, options, vec![Entry::program("usr/bin/l7proxy", &proxy)], &[proxy])?,
    ];
    let mut archives = Vec::new();
    let mut sum = 0;
    for (name, image) in [("millrace-agent", images[0].clone()), ("millrace-proxy", images[1].clone())] {
        let archive = folder.join(format!("{name}.tar"));
        image.write(&archive)?;
        let size = fs::metadata(&archive)?.len();
        sum += size;
        println!("{:6.1} MB  {}  {}", megabytes(size), image.reference, archive.display());
        archives.push(archive);
    }
    println!("{:6.1} MB  together", megabytes(sum));
    ensure!(
        options.profile != "release" || sum <= LIMIT,
        "the images have {:.1} MB together, more than {:.0}",
        megabytes(sum),
        megabytes(LIMIT)
    );
    Ok(archives)
}

/// The CNI plugin runs on the host, with whatever C library that has, or none: it is static.
fn build_plugin(profile: &[&str]) -> anyhow::Result<PathBuf> {
    let version = process::output(process::command("rustc").arg("-vV")).context("rustc does not answer")?;
    let target = version.lines().find_map(|line| line.strip_prefix("host: "));
    let target = target.context("rustc -vV names no host")?;
    let variable = format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"));
    let mut build = process::cargo();
    // With a target named, flags are for what is built for it, not for what runs while building.
    build.args(["build", "--locked", "-p", "mesh-cni-plugin", "--target", target]).args(profile);
    process::run(build.env(variable, "-C target-feature=+crt-static"))?;
    Ok(process::target_dir().join(target).join(profile[1]).join("millrace-cni"))
}

/// An image of files and of the libraries that its programs need; the first file is what is run.
fn image(
    name: &str,
    options: &Options,
    mut files: Vec<Entry>,
    programs: &[PathBuf],
) -> anyhow::Result<Image> {
    let entrypoint = files.first().context("an image needs a program")?.path.clone();
    files.extend(libraries(programs)?);
    Ok(Image {
        reference: format!("{name}:{}", options.tag),
        files,
        entrypoint: vec![Path::new("/").join(entrypoint).to_string_lossy().into_owned()],
        arguments: Vec::new(),
        path: "/usr/bin".to_owned(),
    })
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
