//! `millrace describe`.

use std::process::ExitCode;

use serde_json::Value;

use crate::agent::Agent;
use crate::args::DescribeOptions;
use crate::exit::Outcome;
use crate::output::{Output, at, cell, indented, items, rendered, state_cell, text};

/// Routes that are shown to people; documents have all.
const MOST_ROUTES: usize = 100;

/// Shows an object and what became of it.
pub(crate) async fn run(agent: &Agent, output: &Output, options: &DescribeOptions) -> Outcome {
    let (namespace, name) = match options.name.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (options.namespace.as_deref(), options.name.as_str()),
    };
    let kind = options.kind.path();
    let path = match namespace {
        Some(namespace) => format!("/v1/describe/{kind}/{name}?namespace={namespace}"),
        None => format!("/v1/describe/{kind}/{name}"),
    };
    let described = agent.ask(&path).await?;
    output.show(&described, |described| for_people(output, described))?;
    Ok(ExitCode::SUCCESS)
}

fn for_people(output: &Output, described: &Value) -> String {
    let mut sections = vec![head(described)];
    let tables = [
        ("Conditions", conditions(output, described)),
        ("Problems", problems(described)),
        ("Data", data(described)),
        ("Listeners", listeners(output, described)),
        ("Routes", routes(output, described)),
        ("Clusters", clusters(output, described)),
        ("Frontends", frontends(output, described)),
        ("Used by", items(&described["usedBy"]).map(text).collect::<Vec<_>>().join("\n")),
    ];
    let tables = tables.into_iter().filter(|(_, shown)| !shown.is_empty());
    sections.extend(tables.map(|(title, shown)| format!("{title}:\n{}", indented(&shown))));
    sections.join("\n\n")
}

fn head(described: &Value) -> String {
    let lines = [
        ("Name", cell(&described["name"])),
        ("Namespace", cell(&described["namespace"])),
        ("Kind", cell(&described["kind"])),
        ("Read from", cell(&described["source"])),
        ("Generation", cell(&described["generation"])),
        ("Addresses", cell(&described["addresses"])),
    ];
    let lines = lines.into_iter().filter(|(_, value)| value != "-");
    lines.map(|(name, value)| format!("{:<12}{value}", format!("{name}:"))).collect::<Vec<_>>().join("\n")
}

fn conditions(output: &Output, described: &Value) -> String {
    let mut table = output.prose_table(&["OF", "TYPE", "STATUS", "REASON", "MESSAGE"]);
    for condition in items(&described["conditions"]) {
        let status = text(&condition["status"]);
        let is_good = condition["good"].as_bool().unwrap_or_default();
        let place = match text(&condition["scope"]) {
            whole if whole.is_empty() => "the object".to_owned(),
            scope => scope,
        };
        table.add_row(vec![
            place.into(),
            text(&condition["type"]).into(),
            crate::output::judged_cell(&status, is_good),
            text(&condition["reason"]).into(),
            text(&condition["message"]).into(),
        ]);
    }
    unless_empty(&table)
}

fn problems(described: &Value) -> String {
    let lines = items(&described["problems"]).map(|problem| {
        let place = ["source", "field"].map(|field| text(&problem[field]));
        let place = place.into_iter().filter(|place| !place.is_empty()).collect::<Vec<_>>().join(": ");
        let fix = match text(&problem["fix"]) {
            none if none.is_empty() => none,
            fix => format!(" (to mend: {fix})"),
        };
        format!("{}  {place}: {}{fix}", text(&problem["severity"]), text(&problem["message"]))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Keys of a Secret, and what may be said of their values.
fn data(described: &Value) -> String {
    if described["kind"] != "Secret" {
        return String::new();
    }
    let data = described["object"]["data"].as_object().into_iter().flatten();
    data.map(|(key, value)| format!("{key}: {}", text(value))).collect::<Vec<_>>().join("\n")
}

fn listeners(output: &Output, described: &Value) -> String {
    let mut table = output.table(&["LISTENER", "OWNER", "FOR", "BINDING", "TLS", "STATE"]);
    for listener in items(&described["listeners"]) {
        let state = match text(&listener["reason"]) {
            none if none.is_empty() => text(&listener["state"]),
            reason => format!("{}: {reason}", text(&listener["state"])),
        };
        let tls = if listener["tls"] == true { "yes" } else { "no" };
        table.add_row(vec![
            text(&listener["name"]).into(),
            text(&listener["owner"]).into(),
            cell(&listener["sections"]).into(),
            text(&listener["binding"]).into(),
            tls.into(),
            state_cell(&state),
        ]);
    }
    unless_empty(&table)
}

fn routes(output: &Output, described: &Value) -> String {
    let mut table = output.table(&["TABLE", "HOST", "MATCH", "ACTION", "FROM"]);
    for route in items(&described["routes"]).take(MOST_ROUTES) {
        table.add_row(["table", "host", "match", "action", "from"].map(|field| cell(&route[field])));
    }
    let left_out = items(&described["routes"]).count().saturating_sub(MOST_ROUTES);
    match left_out {
        0 => unless_empty(&table),
        more => format!("{}\nand {more} more: -o json has all", rendered(&table)),
    }
}

fn clusters(output: &Output, described: &Value) -> String {
    let mut table = output.table(&["CLUSTER", "SERVICE", "ENDPOINTS"]);
    for cluster in items(&described["clusters"]) {
        let endpoints: Vec<String> = items(&cluster["endpoints"])
            .map(|endpoint| {
                let address = at(&endpoint["address"], &endpoint["port"]);
                format!("{address} ({})", text(&endpoint["state"]))
            })
            .collect();
        let endpoints = match (cluster["serviceExists"] == true, endpoints.is_empty()) {
            (false, _) => "no such Service: requests get 503".to_owned(),
            (true, true) => "none: requests get 503".to_owned(),
            (true, false) => endpoints.join("\n"),
        };
        let service = format!("{}:{}", text(&cluster["service"]), cluster["port"]);
        table.add_row([text(&cluster["name"]), service, endpoints]);
    }
    unless_empty(&table)
}

fn frontends(output: &Output, described: &Value) -> String {
    let mut rows = items(&described["frontends"]).peekable();
    if rows.peek().is_none() {
        return String::new();
    }
    super::service::table(output, rows)
}

fn unless_empty(table: &comfy_table::Table) -> String {
    if table.row_count() == 0 { String::new() } else { rendered(table) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::for_people;
    use crate::args::{ColorChoice, Format};
    use crate::output::Output;

    #[test]
    fn what_an_object_became_is_told_part_by_part_and_empty_parts_are_left_out() {
        let described = json!({
            "kind": "HTTPRoute", "namespace": "shop", "name": "edge", "source": "30-gateway.yaml document 2",
            "generation": 1, "addresses": [], "problems": [], "listeners": [], "frontends": [], "usedBy": [],
            "conditions": [
                {"scope": "parent Gateway shop/edge", "type": "Accepted", "status": "True", "good": true,
                 "reason": "Accepted", "message": "it is accepted", "field": ""},
            ],
            "routes": [
                {"table": "192.0.2.130:80/http", "host": "gw.example.com", "match": "/v2/*",
                 "action": "forward to shop/web-v2:80", "from": "spec.rules[1]"},
            ],
            "clusters": [
                {"name": "shop:web-v2:80", "service": "shop/web-v2", "port": 80, "serviceExists": true,
                 "endpoints": []},
            ],
        });
        assert_eq!(
            for_people(&Output::new(Format::Table, ColorChoice::Never), &described),
            "Name:       edge\n\
             Namespace:  shop\n\
             Kind:       HTTPRoute\n\
             Read from:  30-gateway.yaml document 2\n\
             Generation: 1\n\
             \n\
             Conditions:\n\
             \x20 OF                        TYPE      STATUS  REASON    MESSAGE\n\
             \x20 parent Gateway shop/edge  Accepted  True    Accepted  it is accepted\n\
             \n\
             Routes:\n\
             \x20 TABLE                HOST            MATCH  ACTION                     FROM\n\
             \x20 192.0.2.130:80/http  gw.example.com  /v2/*  forward to shop/web-v2:80  spec.rules[1]\n\
             \n\
             Clusters:\n\
             \x20 CLUSTER         SERVICE         ENDPOINTS\n\
             \x20 shop:web-v2:80  shop/web-v2:80  none: requests get 503"
        );
    }
}
