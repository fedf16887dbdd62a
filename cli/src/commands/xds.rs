//! `millrace xds`.

use std::process::ExitCode;

use serde_json::Value;

use crate::agent::Agent;
use crate::args::XdsCommand;
use crate::exit::Outcome;
use crate::output::{Output, cell, indented, items, rendered, text};

/// Shows one side of the conversation.
pub(crate) async fn run(agent: &Agent, output: &Output, command: &XdsCommand) -> Outcome {
    match command {
        XdsCommand::Clients => {
            let clients = agent.ask("/v1/xds/clients").await?;
            output.show(&clients, |clients| match clients_table(output, clients) {
                none if none.is_empty() => "no proxy takes configuration".to_owned(),
                table => table,
            })?;
        }
        XdsCommand::Resources => output.document(&agent.ask("/v1/xds/resources").await?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A row a client, and below what each refused; empty when there is none.
pub(crate) fn clients_table(output: &Output, clients: &Value) -> String {
    let mut table =
        output.table(&["NODE", "PID", "PROTOCOL", "CONNECTED", "HAS REVISION", "RESOURCES", "REFUSED"]);
    let mut refusals = Vec::new();
    for client in items(clients) {
        let acknowledged: usize = items(&client["types"])
            .filter_map(|kind| kind["acknowledged"].as_object())
            .map(serde_json::Map::len)
            .sum();
        let refused: Vec<String> = items(&client["types"])
            .flat_map(|kind| {
                let name = text(&kind["type"]);
                let short = name.rsplit('.').next().unwrap_or_default().to_owned();
                let refused = kind["refused"].as_object().into_iter().flatten();
                refused.map(move |(name, nack)| format!("{short} {name}: {}", text(&nack["reason"])))
            })
            .collect();
        table.add_row([
            cell(&client["node"]),
            cell(&client["pid"]),
            cell(&client["protocol"]),
            format!("{} s", client["connectedSeconds"]),
            cell(&client["settledRevision"]),
            acknowledged.to_string(),
            refused.len().to_string(),
        ]);
        refusals.extend(refused);
    }
    if table.row_count() == 0 {
        return String::new();
    }
    let table = rendered(&table);
    if refusals.is_empty() {
        table
    } else {
        format!("{table}\n\nRefused:\n{}", indented(&refusals.join("\n")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::clients_table;
    use crate::args::{ColorChoice, Format};
    use crate::output::Output;

    #[test]
    fn a_client_is_shown_with_the_variant_of_xds_that_it_speaks() {
        let client = |node: &str, protocol: &str| {
            json!({
                "node": node, "pid": 7, "protocol": protocol, "connectedSeconds": 3, "settledRevision": 2,
                "types": [],
            })
        };
        let output = Output::new(Format::Table, ColorChoice::Never);
        assert_eq!(
            clients_table(&output, &json!([client("l7proxy", "delta"), client("envoy", "sotw")])),
            "NODE     PID  PROTOCOL  CONNECTED  HAS REVISION  RESOURCES  REFUSED\n\
             l7proxy  7    delta     3 s        2             0          0\n\
             envoy    7    sotw      3 s        2             0          0"
        );
    }
}
