//! `millrace bpf`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::agent::Agent;
use crate::args::{BpfCommand, LbAction};
use crate::exit::Outcome;
use crate::output::{Output, at, cell, items, rendered, state_cell, text};

/// A column: its header, and how a row's cell is made.
type Column = (&'static str, fn(&Value) -> String);

/// Prints a map.
pub(crate) async fn run(agent: &Agent, output: &Output, command: &BpfCommand) -> Outcome {
    let (map, columns): (&str, &[Column]) = match command {
        BpfCommand::List => {
            let maps = agent.ask("/v1/bpf").await?;
            output.show(&maps, |maps| overview(output, maps))?;
            return Ok(ExitCode::SUCCESS);
        }
        BpfCommand::Lb { action: LbAction::List { frontends: false, backends: false, revnat: false } } => {
            return balanced(agent, output).await;
        }
        BpfCommand::Services(_) | BpfCommand::Lb { action: LbAction::List { frontends: true, .. } } => {
            ("services", SERVICES)
        }
        BpfCommand::Backends(_) | BpfCommand::Lb { action: LbAction::List { backends: true, .. } } => {
            ("backends", BACKENDS)
        }
        BpfCommand::Reverse(_) | BpfCommand::Lb { .. } => ("reverse", REVERSE),
        BpfCommand::Slots(_) => ("slots", SLOTS),
        BpfCommand::NodeAddresses(_) => ("node-addresses", &[("ADDRESS", |row| cell(&row["address"]))]),
        BpfCommand::Listeners(_) => ("listeners", LISTENERS),
        BpfCommand::Config(_) => ("config", &[("PROXY THREADS", |row| cell(&row["proxyThreads"]))]),
        BpfCommand::Counters(_) => ("counters", COUNTERS),
        BpfCommand::Looking(_) => ("looking", LOOKING),
        BpfCommand::Flows(_) => ("flows", FLOWS),
        BpfCommand::Masquerade(_) => ("masquerade", MASQUERADE),
        BpfCommand::Nets(_) => ("nets", NETS),
        BpfCommand::Tunnels(_) => ("tunnels", TUNNELS),
        BpfCommand::Endpoints(_) => ("endpoints", ENDPOINTS),
        BpfCommand::Sources(_) => ("sources", SOURCES),
        BpfCommand::Nat(_) => ("nat", NAT),
        BpfCommand::Notes(_) => ("notes", NOTES),
        BpfCommand::Fragments(_) => ("fragments", FRAGMENTS),
        BpfCommand::Events(_) => ("events", EVENTS),
    };
    let rows = agent.ask(&format!("/v1/bpf/{map}")).await?;
    output.show(&rows, |rows| table(output, columns, rows))?;
    Ok(ExitCode::SUCCESS)
}

const SERVICES: &[Column] = &[
    ("ID", |row| cell(&row["id"])),
    ("SERVICE ADDRESS", |row| address(row, "address", "port")),
    ("PROTOCOL", |row| cell(&row["protocol"])),
    ("BACKENDS", |row| cell(&row["backends"])),
    ("FLAGS", |row| cell(&row["flags"])),
];
const BACKENDS: &[Column] = &[
    ("ID", |row| cell(&row["id"])),
    ("BACKEND ADDRESS", |row| address(row, "address", "port")),
    ("PROTOCOL", |row| cell(&row["protocol"])),
    ("STATE", |row| cell(&row["state"])),
];
const SLOTS: &[Column] = &[
    ("SERVICE", |row| cell(&row["service"])),
    ("SLOT", |row| cell(&row["slot"])),
    ("BACKEND", |row| cell(&row["backend"])),
];
const REVERSE: &[Column] = &[
    ("SOCKET COOKIE", |row| cell(&row["cookie"])),
    ("DIALLED", |row| address(row, "serviceAddress", "servicePort")),
    ("BACKEND ADDRESS", |row| address(row, "backendAddress", "backendPort")),
    ("SERVICE", |row| cell(&row["service"])),
];
const LISTENERS: &[Column] = &[
    ("INDEX", |row| cell(&row["index"])),
    ("THREAD", |row| cell(&row["thread"])),
    ("FAMILY", |row| cell(&row["family"])),
    ("SOCKET COOKIE", |row| cell(&row["cookie"])),
];
const COUNTERS: &[Column] = &[("NAME", |row| cell(&row["name"])), ("VALUE", |row| cell(&row["value"]))];
const LOOKING: &[Column] = &[("CPU", |row| cell(&row["cpu"])), ("LOOKING", |row| cell(&row["looking"]))];
const FLOWS: &[Column] = &[
    ("SOURCE", |row| address(row, "sourceAddress", "sourcePort")),
    ("DESTINATION", |row| address(row, "destinationAddress", "destinationPort")),
    ("STATE", |row| cell(&row["state"])),
];
const MASQUERADE: &[Column] = &[
    ("INTERFACE", |row| cell(&row["interface"])),
    ("IPV4", |row| cell(&row["ipv4"])),
    ("IPV6", |row| cell(&row["ipv6"])),
    ("FLAGS", |row| cell(&row["flags"])),
];
const NETS: &[Column] = &[("RANGE", |row| cell(&row["range"])), ("FLAGS", |row| cell(&row["flags"]))];
const TUNNELS: &[Column] = &[("RANGE", |row| cell(&row["range"])), ("NODE", |row| cell(&row["node"]))];
const ENDPOINTS: &[Column] = &[
    ("ADDRESS", |row| cell(&row["address"])),
    ("INTERFACE", |row| cell(&row["interface"])),
    ("MAC", |row| cell(&row["mac"])),
    ("NODE MAC", |row| cell(&row["nodeMac"])),
];
const SOURCES: &[Column] = &[
    ("INTERFACE", |row| cell(&row["interface"])),
    ("IPV4", |row| cell(&row["ipv4"])),
    ("IPV6", |row| cell(&row["ipv6"])),
];
const NAT: &[Column] = &[
    ("PROTOCOL", |row| cell(&row["protocol"])),
    ("DIRECTION", |row| cell(&row["direction"])),
    ("LOCAL", |row| address(row, "localAddress", "localPort")),
    ("REMOTE", |row| address(row, "remoteAddress", "remotePort")),
    ("TRANSLATED", |row| address(row, "translatedAddress", "translatedPort")),
    ("STATE", |row| cell(&row["state"])),
];
const NOTES: &[Column] = &[
    ("PROTOCOL", |row| cell(&row["protocol"])),
    ("POD", |row| address(row, "localAddress", "localPort")),
    ("OUTSIDE", |row| address(row, "remoteAddress", "remotePort")),
];
const FRAGMENTS: &[Column] = &[
    ("PROTOCOL", |row| cell(&row["protocol"])),
    ("SOURCE", |row| address(row, "sourceAddress", "sourcePort")),
    ("DESTINATION", |row| address(row, "destinationAddress", "destinationPort")),
    ("IDENTIFICATION", |row| cell(&row["identification"])),
];
const EVENTS: &[Column] = &[
    ("SINCE BOOT", |row| {
        let nanoseconds = row["nanosecondsSinceBoot"].as_u64().unwrap_or_default();
        format!("{}.{:06} s", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000 / 1000)
    }),
    ("VERDICT", |row| cell(&row["verdict"])),
    ("REASON", |row| cell(&row["reason"])),
    ("INTERFACE", |row| cell(&row["interface"])),
    ("PROTOCOL", |row| cell(&row["protocol"])),
    ("SOURCE", |row| address(row, "sourceAddress", "sourcePort")),
    ("DESTINATION", |row| address(row, "destinationAddress", "destinationPort")),
];

fn address(row: &Value, address: &str, port: &str) -> String {
    at(&row[address], &row[port])
}

fn table(output: &Output, columns: &[Column], rows: &Value) -> String {
    let header: Vec<&str> = columns.iter().map(|(header, _)| *header).collect();
    let mut table = output.table(&header);
    for row in items(rows) {
        table.add_row(columns.iter().map(|(_, made)| state_cell(&made(row))));
    }
    rendered(&table)
}

/// All maps as a table.
pub(crate) fn overview(output: &Output, maps: &Value) -> String {
    let mut table = output.table(&["MAP", "KERNEL NAME", "KIND", "ENTRIES", "MOST", "FILL"]);
    for map in items(maps) {
        let fill = match (map["entries"].as_u64(), map["maxEntries"].as_u64()) {
            (Some(entries), Some(most)) if most > 0 => {
                format!("{:.1} %", entries as f64 * 100.0 / most as f64)
            }
            _ => "-".to_owned(),
        };
        table.add_row([
            text(&map["name"]),
            text(&map["kernelName"]),
            text(&map["kind"]),
            cell(&map["entries"]),
            cell(&map["maxEntries"]),
            fill,
        ]);
    }
    rendered(&table)
}

/// Services with their slots and backends put together.
async fn balanced(agent: &Agent, output: &Output) -> Outcome {
    let services = agent.ask("/v1/bpf/services").await?;
    let slots = agent.ask("/v1/bpf/slots").await?;
    let backends = agent.ask("/v1/bpf/backends").await?;
    let rows = put_together(&services, &slots, &backends);
    output.show(&rows, |rows| {
        let mut table = output.table(&["SERVICE ADDRESS", "BACKEND ADDRESS (ID) (SLOT)", "FLAGS"]);
        for row in items(rows) {
            let lines: Vec<String> = items(&row["slots"]).map(slot_text).collect();
            let lines = match lines.is_empty() {
                true if row["flags"]
                    .as_array()
                    .is_some_and(|flags| flags.contains(&json!("l7-redirect"))) =>
                {
                    "L7 proxy".to_owned()
                }
                true => "none: connections are refused".to_owned(),
                false => lines.join("\n"),
            };
            let service =
                format!("{}/{} ({})", address(row, "address", "port"), cell(&row["protocol"]), row["id"]);
            table.add_row([service, lines, cell(&row["flags"])]);
        }
        rendered(&table)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn slot_text(slot: &Value) -> String {
    let place = format!("({}) ({})", slot["backend"], slot["slot"]);
    match slot["address"].is_null() {
        true => format!("missing {place}"),
        false => format!("{} {place}", address(slot, "address", "port")),
    }
}

/// Each service with a list of its slots, each slot with the backend it points to.
fn put_together(services: &Value, slots: &Value, backends: &Value) -> Value {
    let by_id: BTreeMap<u64, &Value> =
        items(backends).filter_map(|backend| Some((backend["id"].as_u64()?, backend))).collect();
    let mut by_service: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for slot in items(slots) {
        let Some(service) = slot["service"].as_u64() else { continue };
        let backend = slot["backend"].as_u64().and_then(|id| by_id.get(&id));
        let field = |name: &str| backend.map_or(Value::Null, |backend| backend[name].clone());
        by_service.entry(service).or_default().push(json!({
            "slot": slot["slot"],
            "backend": slot["backend"],
            "address": field("address"),
            "port": field("port"),
            "state": field("state"),
        }));
    }
    let rows = items(services).map(|service| {
        let mut row = service.clone();
        let slots = service["id"].as_u64().and_then(|id| by_service.remove(&id));
        row["slots"] = json!(slots.unwrap_or_default());
        row
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{SERVICES, overview, put_together, slot_text, table};
    use crate::args::{ColorChoice, Format};
    use crate::output::Output;

    fn output() -> Output {
        Output::new(Format::Table, ColorChoice::Never)
    }

    #[test]
    fn services_are_put_together_with_their_slots_and_backends() {
        let services = json!([{"id": 1, "address": "10.96.0.1", "port": 80}, {"id": 2}]);
        let slots = json!([
            {"service": 1, "slot": 0, "backend": 7},
            {"service": 1, "slot": 1, "backend": 9},
        ]);
        let backends = json!([{"id": 7, "address": "fd00::1", "port": 8080, "state": "active"}]);
        let rows = put_together(&services, &slots, &backends);
        assert_eq!(slot_text(&rows[0]["slots"][0]), "[fd00::1]:8080 (7) (0)");
        assert_eq!(slot_text(&rows[0]["slots"][1]), "missing (9) (1)");
        assert_eq!(rows[1]["slots"], json!([]));
    }

    #[test]
    fn rows_of_a_map_are_a_table() {
        let rows = json!([
            {"id": 4, "address": "10.96.0.1", "port": 80, "protocol": "TCP", "backends": 2, "flags": []},
            {"id": 5, "address": "fd00::1", "port": 80, "protocol": "TCP", "backends": 0, "flags": ["l7-redirect"]},
        ]);
        assert_eq!(
            table(&output(), SERVICES, &rows),
            "ID  SERVICE ADDRESS  PROTOCOL  BACKENDS  FLAGS\n\
             4   10.96.0.1:80     TCP       2         -\n\
             5   [fd00::1]:80     TCP       0         l7-redirect"
        );
    }

    #[test]
    fn how_full_a_map_is_is_said_where_it_can_be() {
        let maps = json!([
            {"name": "services", "kernelName": "mr_services_v1", "kind": "Hash", "entries": 5, "maxEntries": 1000},
            {"name": "counters", "kernelName": "mr_counters_v1", "kind": "Array", "entries": null, "maxEntries": 64},
        ]);
        assert_eq!(
            overview(&output(), &maps),
            "MAP       KERNEL NAME     KIND   ENTRIES  MOST  FILL\n\
             services  mr_services_v1  Hash   5        1000  0.5 %\n\
             counters  mr_counters_v1  Array  -        64    -"
        );
    }
}
