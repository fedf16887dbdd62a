//! `millrace service`: Cilium's columns, and whose it is.

use std::process::ExitCode;

use serde_json::Value;

use crate::agent::Agent;
use crate::args::ServiceCommand;
use crate::exit::{Failure, Outcome};
use crate::output::{Output, at, cell, items, rendered, text};

/// Lists frontends.
pub(crate) async fn run(agent: &Agent, output: &Output, command: &ServiceCommand) -> Outcome {
    let rows = agent.ask("/v1/services").await?;
    let shown = match command {
        ServiceCommand::List => rows,
        ServiceCommand::Get { which } => {
            let found: Vec<Value> = items(&rows).filter(|row| is_named(row, which)).cloned().collect();
            if found.is_empty() {
                let fix = "`millrace service list` has all identifiers, addresses and names";
                return Err(Failure::NotFound(format!(
                    "no frontend has the ID, the address or the name {which}; {fix}"
                )));
            }
            Value::Array(found)
        }
    };
    output.show(&shown, |shown| table(output, items(shown)))?;
    Ok(ExitCode::SUCCESS)
}

fn is_named(row: &Value, which: &str) -> bool {
    let frontend = &row["frontend"];
    row["id"].as_u64().is_some_and(|id| id.to_string() == which)
        || frontend["address"] == which
        || at(&frontend["address"], &frontend["port"]) == which
        || frontend_text(frontend) == which
        || name(row) == which
}

/// The rows as a table; a backend a line.
pub(crate) fn table<'a>(output: &Output, rows: impl Iterator<Item = &'a Value>) -> String {
    let mut table = output.table(&["ID", "Frontend", "Service Type", "Backend", "Name"]);
    for row in rows {
        let proxy =
            row["proxy"].as_object().map(|proxy| format!("L7 proxy, listener {}", text(&proxy["listener"])));
        let backends = (1..).zip(items(&row["backends"])).map(|(number, backend)| {
            let address = at(&backend["address"], &backend["port"]);
            format!("{number} => {address} ({})", text(&backend["state"]))
        });
        let lines: Vec<String> = proxy.into_iter().chain(backends).collect();
        let lines =
            if lines.is_empty() { "none: connections are refused".to_owned() } else { lines.join("\n") };
        table.add_row([
            cell(&row["id"]),
            frontend_text(&row["frontend"]),
            text(&row["type"]),
            lines,
            name(row),
        ]);
    }
    rendered(&table)
}

/// `address:port/protocol`.
fn frontend_text(frontend: &Value) -> String {
    format!("{}/{}", at(&frontend["address"], &frontend["port"]), text(&frontend["protocol"]))
}

/// The Service, or the object whose address it is.
fn name(row: &Value) -> String {
    match row["service"].as_str() {
        Some(service) => service.to_owned(),
        None => text(&row["proxy"]["owner"]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{is_named, table};
    use crate::args::{ColorChoice, Format};
    use crate::output::Output;

    #[test]
    fn a_frontend_has_a_line_for_each_backend_and_tells_when_the_proxy_takes_it() {
        let rows = [
            json!({
                "id": 1, "type": "ClusterIP", "service": "shop/web", "proxy": null,
                "frontend": {"address": "10.96.0.1", "port": 80, "protocol": "TCP"},
                "backends": [
                    {"address": "10.0.0.1", "port": 8080, "state": "active"},
                    {"address": "10.0.0.2", "port": 8080, "state": "terminating"},
                ],
            }),
            json!({
                "id": null, "type": "LoadBalancer", "service": null, "backends": [],
                "proxy": {"listener": "[2001:db8::1]:80", "owner": "ingress/shop/web/80"},
                "frontend": {"address": "2001:db8::1", "port": 80, "protocol": "TCP"},
            }),
        ];
        let output = Output::new(Format::Table, ColorChoice::Never);
        assert_eq!(
            table(&output, rows.iter()),
            "ID  Frontend              Service Type  Backend                              Name\n\
             1   10.96.0.1:80/TCP      ClusterIP     1 => 10.0.0.1:8080 (active)          shop/web\n\
             \x20                                       2 => 10.0.0.2:8080 (terminating)\n\
             -   [2001:db8::1]:80/TCP  LoadBalancer  L7 proxy, listener [2001:db8::1]:80  ingress/shop/web/80"
        );
        for which in ["1", "10.96.0.1", "10.96.0.1:80", "10.96.0.1:80/TCP", "shop/web"] {
            assert!(is_named(&rows[0], which) && !is_named(&rows[1], which), "{which}");
        }
        assert!(is_named(&rows[1], "[2001:db8::1]:80") && !is_named(&rows[1], "null"));
    }
}
