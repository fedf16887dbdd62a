//! `millrace version`.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::agent::Agent;
use crate::args::VersionOptions;
use crate::exit::Outcome;
use crate::output::{Output, cell, rendered};

/// The client's version is shown even when nobody can be asked for the others.
pub(crate) async fn run(agent: &Agent, output: &Output, options: &VersionOptions) -> Outcome {
    let client =
        json!({"version": env!("CARGO_PKG_VERSION"), "commit": option_env!("MILLRACE_BUILD_COMMIT")});
    let mut versions = json!({"client": client});
    let asked = match options.client {
        true => Ok(()),
        false => ask(agent, &mut versions).await,
    };
    output.show(&versions, |versions| {
        let mut table = output.table(&["PART", "VERSION", "COMMIT"]);
        for part in ["client", "agent", "proxy"] {
            let version = &versions[part];
            table.add_row([part.to_owned(), cell(&version["version"]), cell(&version["commit"])]);
        }
        rendered(&table)
    })?;
    asked.map(|()| ExitCode::SUCCESS)
}

async fn ask(agent: &Agent, versions: &mut Value) -> Outcome<()> {
    versions["agent"] = agent.ask("/v1/version").await?;
    let proxy = agent.ask("/v1/proxy/info").await?;
    versions["proxy"] = json!({"version": proxy["version"], "commit": proxy["commit"]});
    Ok(())
}
