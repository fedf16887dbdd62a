//! `millrace endpoint`: the pods of this node whose network the agent made.

use std::process::ExitCode;

use serde_json::Value;

use crate::agent::Agent;
use crate::exit::Outcome;
use crate::output::{Output, cell, items, rendered, text};

/// Lists endpoints.
pub(crate) async fn run(agent: &Agent, output: &Output) -> Outcome {
    let answer = agent.ask("/v1/endpoints").await?;
    output.show(&answer["endpoints"], |endpoints| table(output, items(endpoints)))?;
    Ok(ExitCode::SUCCESS)
}

fn table<'a>(output: &Output, rows: impl Iterator<Item = &'a Value>) -> String {
    let mut table = output.table(&["Endpoint", "Pod", "IPv4", "IPv6", "Device", "Status"]);
    for row in rows {
        let of_family = |mark: char| {
            let addresses = items(&row["addresses"]).filter_map(Value::as_str);
            addresses.filter(|address| address.contains(mark)).collect::<Vec<_>>().join(", ")
        };
        let pod = match &row["pod"] {
            Value::Null => format!("container {}", text(&row["containerId"])),
            pod => format!("{}/{}", text(&pod["namespace"]), text(&pod["name"])),
        };
        let device = text(&row["device"]["name"]);
        table.add_row([cell(&row["id"]), pod, of_family('.'), of_family(':'), device, text(&row["state"])]);
    }
    rendered(&table)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::table;
    use crate::args::{ColorChoice, Format};
    use crate::output::Output;

    #[test]
    fn a_pod_is_a_line_with_its_addresses_by_family() {
        let rows = [json!({
            "id": 7, "containerId": "c", "pod": {"namespace": "shop", "name": "web", "uid": ""},
            "addresses": ["10.0.0.2", "fd00::2"], "device": {"name": "mrp0123456789ab"}, "state": "ready",
        })];
        let shown = table(&Output::new(Format::Table, ColorChoice::Never), rows.iter());
        let line = shown.lines().last().expect("a line");
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells, ["7", "shop/web", "10.0.0.2", "fd00::2", "mrp0123456789ab", "ready"]);
    }
}
