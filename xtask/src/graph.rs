//! The edges between our crates, held against a committed file and against the edges that are allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use crate::process;

/// Options of `graph`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Write docs/crate-graph.txt instead of comparing with it.
    #[arg(long)]
    bless: bool,
}

/// Where the edges are committed.
const COMMITTED: &str = "docs/crate-graph.txt";

/// What each crate may depend on (docs/architecture.md). Binaries, tasks and tests may depend on anything
/// and are not listed; nobody may depend on them.
const ALLOWED: &[(&str, &[&str])] = &[
    ("mesh-model", &[]),
    ("mesh-tables", &[]),
    ("mesh-ebpf-abi", &[]),
    ("mesh-xds-proto", &[]),
    ("mesh-l7proxy-wire", &[]),
    ("mesh-cni-wire", &[]),
    ("mesh-oci", &[]),
    ("mesh-cni-plugin", &["mesh-cni-wire"]),
    ("mesh-k8s-api", &["mesh-model"]),
    ("mesh-ebpf-logic", &["mesh-ebpf-abi"]),
    ("mesh-ebpf-maps", &["mesh-ebpf-abi"]),
    ("mesh-ebpf-loader", &["mesh-ebpf-abi", "mesh-ebpf-maps"]),
    ("mesh-k8s-ingest", &["mesh-model", "mesh-k8s-api"]),
    ("mesh-ingress", &["mesh-model", "mesh-k8s-api"]),
    ("mesh-gateway-api", &["mesh-model", "mesh-k8s-api"]),
    ("mesh-k8s-files", &["mesh-model", "mesh-tables", "mesh-k8s-api", "mesh-k8s-ingest"]),
    ("mesh-k8s-reflect", &["mesh-model", "mesh-tables", "mesh-k8s-api", "mesh-k8s-ingest"]),
    ("mesh-xds", &["mesh-model", "mesh-xds-proto"]),
    (
        "mesh-control-loadbalancer",
        &["mesh-model", "mesh-tables", "mesh-ebpf-abi", "mesh-ebpf-logic", "mesh-ebpf-maps"],
    ),
    (
        "mesh-control-node",
        &["mesh-model", "mesh-tables", "mesh-ebpf-abi", "mesh-ebpf-logic", "mesh-ebpf-maps"],
    ),
    ("mesh-control-identity", &["mesh-model", "mesh-tables"]),
    ("mesh-control-ipam", &["mesh-model", "mesh-tables"]),
    ("mesh-control-endpoint", &["mesh-model", "mesh-tables"]),
    ("mesh-l7proxy-config", &["mesh-model", "mesh-xds-proto"]),
    ("mesh-l7proxy-proxy", &["mesh-l7proxy-config", "mesh-model", "mesh-ebpf-logic"]),
];

/// Crates that may depend on anything and that nobody may depend on.
const TOPS: &[&str] = &[
    "mesh-agent",
    "mesh-cli",
    "mesh-l7proxy-daemon",
    "mesh-fuzz-targets",
    "mesh-testkit",
    "mesh-conformance",
    "mesh-conformance-cluster",
    "mesh-bench",
    "mesh-conformance-differential",
    "xtask",
];

/// Prints the edges, or blesses them. False when they are not as committed or not allowed.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let edges = edges()?;
    let text = shown(&edges);
    let committed = process::root().join(COMMITTED);
    if options.bless {
        fs::write(&committed, &text).with_context(|| format!("cannot write {COMMITTED}"))?;
    }
    print!("{text}");
    check(&edges, &text)
}

/// Holds the edges against the committed file and the table, quietly.
pub(crate) fn is_as_committed() -> anyhow::Result<bool> {
    let edges = edges()?;
    check(&edges, &shown(&edges))
}

fn check(edges: &BTreeMap<String, BTreeSet<String>>, text: &str) -> anyhow::Result<bool> {
    let committed = process::root().join(COMMITTED);
    let expected = fs::read_to_string(&committed).with_context(|| format!("cannot read {COMMITTED}"))?;
    let mut holds = true;
    if expected != text {
        println!(
            "the crate graph is not {COMMITTED}: look at the new edges, then `cargo xtask graph --bless`"
        );
        holds = false;
    }
    for violation in violations(edges) {
        println!("not allowed: {violation}");
        holds = false;
    }
    Ok(holds)
}

/// Normal and build dependencies between members, from cargo itself.
fn edges() -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut cargo = process::cargo();
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let text = process::output(&mut cargo).context("cargo metadata failed")?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata is no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut edges = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has a name")?;
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let ours = dependencies
            .filter(|dependency| dependency["kind"] != "dev")
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|dependency| names.contains(dependency))
            .map(str::to_owned)
            .collect();
        edges.insert(name.to_owned(), ours);
    }
    Ok(edges)
}

fn shown(edges: &BTreeMap<String, BTreeSet<String>>) -> String {
    let mut text = String::new();
    for (from, to) in edges {
        text.push_str(from);
        text.push('\n');
        for name in to {
            text.push_str("    ");
            text.push_str(name);
            text.push('\n');
        }
    }
    text
}

fn violations(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for (from, to) in edges {
        let is_top = TOPS.contains(&from.as_str());
        let allowed = ALLOWED.iter().find(|(name, _)| name == from).map(|(_, allowed)| *allowed);
        if allowed.is_none() && !is_top {
            found.push(format!("{from} is not in the table of allowed edges"));
        }
        for name in to {
            let top_of_test = name == "mesh-testkit" && from.starts_with("mesh-conformance");
            if TOPS.contains(&name.as_str()) && !top_of_test {
                found.push(format!("{from} -> {name}: nobody depends on a binary or a test harness"));
            } else if allowed.is_some_and(|allowed| !allowed.contains(&name.as_str())) {
                found.push(format!("{from} -> {name}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::violations;

    fn graph(from: &str, to: &str) -> BTreeMap<String, BTreeSet<String>> {
        BTreeMap::from([(from.to_owned(), BTreeSet::from([to.to_owned()]))])
    }

    #[test]
    fn an_edge_that_is_not_in_the_table_is_found() {
        assert_eq!(violations(&graph("mesh-model", "mesh-xds")), ["mesh-model -> mesh-xds"]);
        assert_eq!(violations(&graph("mesh-new", "mesh-model")).len(), 1);
        assert_eq!(violations(&graph("mesh-ingress", "mesh-agent")).len(), 1);
        assert!(violations(&graph("mesh-ingress", "mesh-model")).is_empty());
    }
}
