//! Objects as rows for people.

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::args::Kind;

/// Makes the cells of an object's row.
type Row = fn(&Value) -> Vec<String>;

/// A table of objects of one kind.
pub(crate) fn objects(kind: Kind, objects: &[Value]) -> Table {
    let (header, row): (&[&str], Row) = match kind {
        Kind::Ingress => (&["NAMESPACE", "NAME", "CLASS", "HOSTS", "ADDRESS", "PORTS", "STATE"], ingress),
        Kind::Gateway => (&["NAMESPACE", "NAME", "CLASS", "ADDRESS", "PROGRAMMED", "LISTENERS"], gateway),
        Kind::GatewayClass => (&["NAME", "CONTROLLER", "ACCEPTED"], gateway_class),
        Kind::HttpRoute => {
            (&["NAMESPACE", "NAME", "HOSTNAMES", "PARENT", "ACCEPTED", "REFERENCES"], http_route)
        }
    };
    let mut table = plain_table();
    table.set_header(header);
    for object in objects {
        table.add_row(row(object));
    }
    table
}

/// Parts and problems of the agent.
pub(crate) fn health(status: &Value) -> String {
    let mut parts = plain_table();
    parts.set_header(["PART", "STATE", "DETAIL"]);
    for part in status["parts"].as_array().into_iter().flatten() {
        parts.add_row([text(&part["name"]), text(&part["state"]), text(&part["detail"])]);
    }
    let mut shown = parts.to_string();
    let problems: Vec<String> = status["problems"].as_array().into_iter().flatten().map(text).collect();
    if !problems.is_empty() {
        shown.push_str("\n\nProblems:\n");
        for problem in problems {
            shown.push_str("  - ");
            shown.push_str(&problem);
            shown.push('\n');
        }
    }
    shown
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn name(object: &Value) -> [String; 2] {
    [text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"])]
}

fn joined(values: impl Iterator<Item = String>) -> String {
    let mut unique: Vec<String> = Vec::new();
    for value in values.filter(|value| !value.is_empty()) {
        if !unique.contains(&value) {
            unique.push(value);
        }
    }
    unique.join(",")
}

fn each<'a>(list: &'a Value, field: &'a str) -> impl Iterator<Item = String> + 'a {
    list.as_array().into_iter().flatten().map(move |item| text(&item[field]))
}

/// `True`, or `False: Reason`, of a condition; several parts are joined.
fn condition(conditions: &Value, kind: &str) -> String {
    let found = conditions.as_array().into_iter().flatten().filter(|c| c["type"] == kind);
    joined(found.map(|condition| match condition["status"].as_str() {
        Some("True") => "True".to_owned(),
        status => format!("{}: {}", status.unwrap_or("Unknown"), text(&condition["reason"])),
    }))
}

/// Whether a condition asks for attention. Most types are good when true; some are when false.
fn is_bad(condition: &Value) -> bool {
    let good = match condition["type"].as_str() {
        Some("Conflicted" | "PartiallyInvalid") => "False",
        _ => "True",
    };
    condition["status"] != good
}

fn ingress(object: &Value) -> Vec<String> {
    let spec = &object["spec"];
    let balancer = &object["status"]["loadBalancer"]["ingress"];
    let hosts = joined(each(&spec["rules"], "host"));
    let ports = if spec["tls"].as_array().is_some_and(|tls| !tls.is_empty()) { "80,443" } else { "80" };
    let bad: Vec<String> = object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|condition| is_bad(condition))
        .map(|condition| format!("{}: {}", text(&condition["reason"]), text(&condition["message"])))
        .collect();
    let [namespace, name] = name(object);
    let class = joined([text(&spec["ingressClassName"])].into_iter());
    let hosts = if hosts.is_empty() { "*".to_owned() } else { hosts };
    let state = if bad.is_empty() { "Ready".to_owned() } else { bad.join("; ") };
    vec![namespace, name, class, hosts, joined(each(balancer, "ip")), ports.to_owned(), state]
}

fn gateway(object: &Value) -> Vec<String> {
    let status = &object["status"];
    let listeners = status["listeners"].as_array().into_iter().flatten().map(|listener| {
        let routes = listener["attachedRoutes"].as_u64().unwrap_or_default();
        format!("{}({routes})", text(&listener["name"]))
    });
    let [namespace, name] = name(object);
    vec![
        namespace,
        name,
        text(&object["spec"]["gatewayClassName"]),
        joined(each(&status["addresses"], "value")),
        condition(&status["conditions"], "Programmed"),
        joined(listeners),
    ]
}

fn gateway_class(object: &Value) -> Vec<String> {
    let [_, name] = name(object);
    let controller = text(&object["spec"]["controllerName"]);
    vec![name, controller, condition(&object["status"]["conditions"], "Accepted")]
}

fn http_route(object: &Value) -> Vec<String> {
    let [namespace, name] = name(object);
    let hostnames = object["spec"]["hostnames"].as_array().into_iter().flatten().map(text);
    let parents = || object["status"]["parents"].as_array().into_iter().flatten();
    let of = |kind: &'static str| joined(parents().map(move |p| condition(&p["conditions"], kind)));
    let parent_names = parents().map(|parent| {
        let reference = &parent["parentRef"];
        format!("{}/{}", text(&reference["kind"]), text(&reference["name"]))
    });
    let hostnames = joined(hostnames);
    let hostnames = if hostnames.is_empty() { "*".to_owned() } else { hostnames };
    vec![namespace, name, hostnames, joined(parent_names), of("Accepted"), of("ResolvedRefs")]
}

#[cfg(test)]
mod tests;
