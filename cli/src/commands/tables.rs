//! `millrace tables`.

use std::process::ExitCode;

use crate::agent::Agent;
use crate::args::TablesOptions;
use crate::exit::{Failure, Outcome};
use crate::output::Output;

/// Prints documents: rows of different tables have nothing in common.
pub(crate) async fn run(agent: &Agent, output: &Output, options: &TablesOptions) -> Outcome {
    let tables = agent.ask("/v1/tables").await?;
    match &options.name {
        None => output.document(&tables)?,
        Some(name) => match tables.get(name) {
            Some(table) => output.document(table)?,
            None => {
                let known: Vec<&str> =
                    tables.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                let known = if known.is_empty() { "none here".to_owned() } else { known.join(", ") };
                return Err(Failure::NotFound(format!("no table is called {name}; there are: {known}")));
            }
        },
    }
    Ok(ExitCode::SUCCESS)
}
