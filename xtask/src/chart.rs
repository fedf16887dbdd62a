//! The Helm chart, without a cluster: linted, and what it renders held against committed files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use clap::Args;

use crate::suite::Tally;
use crate::{go, process};

/// Options of `chart`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Write what is rendered to charts/golden instead of comparing with it.
    #[arg(long)]
    bless: bool,
}

const CHART: &str = "charts/millrace";
/// `NAME.values.yaml` beside what comes of it: `NAME.yaml`, or in `refused` the error, `NAME.txt`.
const GOLDEN: &str = "charts/golden";
const VALUES: &str = ".values.yaml";
/// Charts ask for the version of the cluster, of which there is none.
const KUBE_VERSION: &str = "1.34.0";

/// False when something is not as committed.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let helm = go::build_helm()?;
    let golden = process::root().join(GOLDEN);
    let mut tally = Tally::default();
    for values in values_in(&golden)? {
        let lint =
            process::output(helm_command(&helm, "lint").args(["--strict", CHART, "--values"]).arg(&values));
        tally += judge(&format!("lint {}", name_of(&values)), lint.is_some(), "`helm lint` fails");
        let (rendered, text) = render(&helm, &values)?;
        let name = format!("render {}", name_of(&values));
        let same = rendered && is_golden(&values, "yaml", &text, options.bless)?;
        tally +=
            judge(&name, same, if rendered { "not as committed: look at it, then --bless" } else { &text });
    }
    for values in values_in(&golden.join("refused"))? {
        let (rendered, text) = render(&helm, &values)?;
        let name = format!("refuse {}", name_of(&values));
        let same = !rendered && is_golden(&values, "txt", &text, options.bless)?;
        tally += judge(
            &name,
            same,
            if rendered { "it is taken" } else { "another error: look at it, then --bless" },
        );
    }
    println!("{tally}");
    Ok(tally.failed == 0)
}

fn judge(name: &str, passed: bool, why: &str) -> Tally {
    match passed {
        true => println!("ok      {name}"),
        false => println!("FAILED  {name}: {why}"),
    }
    Tally::one(passed)
}

fn values_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(VALUES) {
            files.push(path);
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "there is no *{VALUES} in {}", folder.display());
    Ok(files)
}

fn name_of(values: &Path) -> String {
    let name = values.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(VALUES).to_owned()
}

fn helm_command(helm: &Path, task: &str) -> Command {
    let mut command = process::command(&helm.to_string_lossy());
    command.arg(task).args(["--kube-version", KUBE_VERSION, "--namespace", "millrace-system"]);
    command
}

/// Whether it is rendered, and what is; otherwise the error.
fn render(helm: &Path, values: &Path) -> anyhow::Result<(bool, String)> {
    let mut command = helm_command(helm, "template");
    let output = command.args(["millrace", CHART, "--values"]).arg(values).output();
    let output = output.context("cannot start helm")?;
    if output.status.success() {
        return Ok((true, String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    // The schema's errors come in no order.
    let text = String::from_utf8_lossy(&output.stderr);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    Ok((false, lines.join("\n") + "\n"))
}

fn is_golden(values: &Path, extension: &str, text: &str, bless: bool) -> anyhow::Result<bool> {
    let file = values.with_file_name(format!("{}.{extension}", name_of(values)));
    if bless {
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(fs::read_to_string(&file).is_ok_and(|committed| committed == text))
}
