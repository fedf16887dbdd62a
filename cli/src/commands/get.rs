//! `millrace get`.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::agent::Agent;
use crate::args::{Format, GetOptions, Kind};
use crate::exit::{Failure, Outcome};
use crate::output::{Output, cell, items, rendered, state_cell, text};

/// Lists objects of a kind. A name that is not there is exit code 4; an empty list is none.
pub(crate) async fn run(agent: &Agent, output: &Output, options: &GetOptions) -> Outcome {
    let kind = options.kind.path();
    let answer = agent.ask(&format!("/v1/get/{kind}")).await?;
    let mut objects: Vec<Value> = items(&answer).cloned().collect();
    let (namespace, name) = match options.name.as_deref().and_then(|name| name.split_once('/')) {
        Some((namespace, name)) => (Some(namespace), Some(name)),
        None => (options.namespace.as_deref(), options.name.as_deref()),
    };
    let has = |object: &Value, field: &str, wanted: Option<&str>| {
        wanted.is_none_or(|wanted| object["metadata"][field] == wanted)
    };
    objects.retain(|object| has(object, "namespace", namespace) && has(object, "name", name));
    if let (Some(name), true) = (name, objects.is_empty()) {
        let place = namespace.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
        return Err(Failure::NotFound(format!("there is no {kind} {name}{place}")));
    }
    if output.format() == Format::Table && objects.is_empty() {
        return say_empty(kind, namespace);
    }
    let document = match (name, objects.len()) {
        (Some(_), 1) => objects[0].clone(),
        _ => json!({"apiVersion": "v1", "kind": "List", "items": objects}),
    };
    output.show(&document, |document| {
        let objects: Vec<&Value> = match document["items"].as_array() {
            Some(items) => items.iter().collect(),
            None => vec![document],
        };
        table(output, options.kind, &objects)
    })?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stderr, reason = "what is no output goes to stderr")]
fn say_empty(kind: &str, namespace: Option<&str>) -> Outcome {
    let place = namespace.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
    eprintln!("no {kind} found{place}");
    Ok(ExitCode::SUCCESS)
}

/// Makes the cells of an object's row, the namespace and the name left out.
type Row = fn(&Value) -> Vec<String>;

fn table(output: &Output, kind: Kind, objects: &[&Value]) -> String {
    let (is_namespaced, header, row): (bool, &[&str], Row) = match kind {
        Kind::Ingress => (true, &["CLASS", "HOSTS", "ADDRESS", "PORTS", "STATE"], ingress),
        Kind::IngressClass => (false, &["CONTROLLER"], |object| vec![cell(&object["spec"]["controller"])]),
        Kind::Gateway => (true, &["CLASS", "ADDRESS", "PROGRAMMED", "LISTENERS"], gateway),
        Kind::GatewayClass => (false, &["CONTROLLER", "ACCEPTED"], gateway_class),
        Kind::HttpRoute => (true, &["HOSTNAMES", "PARENT", "ACCEPTED", "REFERENCES"], http_route),
        Kind::ReferenceGrant => (true, &["FROM", "TO"], reference_grant),
        Kind::Service => (true, &["TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORTS"], service),
        Kind::EndpointSlice => (true, &["SERVICE", "ADDRESSTYPE", "PORTS", "ENDPOINTS"], endpoint_slice),
        Kind::Secret => (true, &["TYPE", "KEYS"], secret),
        Kind::Namespace => (false, &[], |_| Vec::new()),
        Kind::LbPool => (false, &["BLOCKS", "DISABLED"], pool),
        Kind::Node => (false, &["INTERNAL-IP", "POD-CIDRS"], node),
        Kind::CiliumNode => (false, &["INTERNAL-IP", "POD-CIDRS"], cilium_node),
        Kind::Pod => (true, &["ACCOUNT"], |object| vec![cell(&object["spec"]["serviceAccountName"])]),
        Kind::CiliumIdentity => (false, &["LABELS"], identity),
        Kind::CiliumEndpoint => (true, &["IDENTITY", "ADDRESSES", "NODE", "STATE"], endpoint),
    };
    let names: &[&str] = if is_namespaced { &["NAMESPACE", "NAME"] } else { &["NAME"] };
    // What is wrong with an Ingress is prose.
    let header = [names, header].concat();
    let mut table = if kind == Kind::Ingress { output.prose_table(&header) } else { output.table(&header) };
    for object in objects {
        let metadata = &object["metadata"];
        let namespace = is_namespaced.then(|| cell(&metadata["namespace"]));
        let cells = namespace.into_iter().chain([cell(&metadata["name"])]).chain(row(object));
        table.add_row(cells.map(|text| state_cell(&text)));
    }
    rendered(&table)
}

fn joined(values: impl Iterator<Item = String>) -> String {
    let mut unique: Vec<String> = Vec::new();
    for value in values.filter(|value| !value.is_empty()) {
        if !unique.contains(&value) {
            unique.push(value);
        }
    }
    if unique.is_empty() { "-".to_owned() } else { unique.join(",") }
}

fn each<'a>(list: &'a Value, field: &'a str) -> impl Iterator<Item = String> + 'a {
    items(list).map(move |item| text(&item[field]))
}

/// Hosts; every host where none is named.
fn hosts(named: impl Iterator<Item = String>) -> String {
    match joined(named) {
        none if none == "-" => "*".to_owned(),
        hosts => hosts,
    }
}

/// `True`, or `False: Reason`, of a condition; several parts are joined.
fn condition(conditions: &Value, kind: &str) -> String {
    let found = items(conditions).filter(|condition| condition["type"] == kind);
    joined(found.map(|condition| match condition["status"].as_str() {
        Some("True") => "True".to_owned(),
        status => format!("{}: {}", status.unwrap_or("Unknown"), text(&condition["reason"])),
    }))
}

/// Whether a condition asks for attention. Most types are good when true; some are when false.
fn is_bad(condition: &Value) -> bool {
    let good = match condition["type"].as_str() {
        Some("Conflicted" | "PartiallyInvalid" | "OverlappingTLSConfig") => "False",
        _ => "True",
    };
    condition["status"] != good
}

fn ingress(object: &Value) -> Vec<String> {
    let spec = &object["spec"];
    let ports = if items(&spec["tls"]).next().is_some() { "80,443" } else { "80" };
    let bad: Vec<String> = items(&object["status"]["conditions"])
        .filter(|condition| is_bad(condition))
        .map(|condition| format!("{}: {}", text(&condition["reason"]), text(&condition["message"])))
        .collect();
    vec![
        cell(&spec["ingressClassName"]),
        hosts(each(&spec["rules"], "host")),
        joined(each(&object["status"]["loadBalancer"]["ingress"], "ip")),
        ports.to_owned(),
        if bad.is_empty() { "Ready".to_owned() } else { bad.join("; ") },
    ]
}

fn gateway(object: &Value) -> Vec<String> {
    let status = &object["status"];
    let listeners = items(&status["listeners"]).map(|listener| {
        format!("{}({})", text(&listener["name"]), listener["attachedRoutes"].as_u64().unwrap_or_default())
    });
    vec![
        cell(&object["spec"]["gatewayClassName"]),
        joined(each(&status["addresses"], "value")),
        condition(&status["conditions"], "Programmed"),
        joined(listeners),
    ]
}

fn gateway_class(object: &Value) -> Vec<String> {
    vec![cell(&object["spec"]["controllerName"]), condition(&object["status"]["conditions"], "Accepted")]
}

fn http_route(object: &Value) -> Vec<String> {
    let parents = || items(&object["status"]["parents"]);
    let of = |kind: &'static str| joined(parents().map(move |parent| condition(&parent["conditions"], kind)));
    let parent_names = parents().map(|parent| {
        let reference = &parent["parentRef"];
        format!("{}/{}", text(&reference["kind"]), text(&reference["name"]))
    });
    let hostnames = items(&object["spec"]["hostnames"]).map(text);
    vec![hosts(hostnames), joined(parent_names), of("Accepted"), of("ResolvedRefs")]
}

fn reference_grant(object: &Value) -> Vec<String> {
    let spec = &object["spec"];
    let from =
        items(&spec["from"]).map(|from| format!("{}/{}", text(&from["namespace"]), text(&from["kind"])));
    let to = items(&spec["to"]).map(|to| match text(&to["name"]) {
        all if all.is_empty() => text(&to["kind"]),
        name => format!("{}/{name}", text(&to["kind"])),
    });
    vec![joined(from), joined(to)]
}

fn ports(ports: &Value) -> String {
    joined(items(ports).map(|port| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        format!("{}/{protocol}", port["port"])
    }))
}

fn service(object: &Value) -> Vec<String> {
    let spec = &object["spec"];
    let own = items(&spec["clusterIPs"]).map(text).chain([text(&spec["clusterIP"])]);
    let external = items(&spec["externalIPs"]).map(text);
    let given = each(&object["status"]["loadBalancer"]["ingress"], "ip");
    vec![
        spec["type"].as_str().unwrap_or("ClusterIP").to_owned(),
        joined(own),
        joined(external.chain(given)),
        ports(&spec["ports"]),
    ]
}

fn endpoint_slice(object: &Value) -> Vec<String> {
    let addresses = items(&object["endpoints"]).flat_map(|endpoint| items(&endpoint["addresses"]).map(text));
    vec![
        cell(&object["metadata"]["labels"]["kubernetes.io/service-name"]),
        cell(&object["addressType"]),
        ports(&object["ports"]),
        joined(addresses),
    ]
}

fn secret(object: &Value) -> Vec<String> {
    let keys = object["data"].as_object().into_iter().flatten().map(|(key, _)| key.clone());
    vec![cell(&object["type"]), joined(keys)]
}

fn pool(object: &Value) -> Vec<String> {
    let spec = &object["spec"];
    let blocks = items(&spec["blocks"]).map(|block| match text(&block["cidr"]) {
        none if none.is_empty() => format!("{}-{}", text(&block["start"]), text(&block["stop"])),
        cidr => cidr,
    });
    vec![joined(blocks), cell(&spec["disabled"])]
}

fn node(object: &Value) -> Vec<String> {
    internal_addresses(&object["status"]["addresses"], "address", &object["spec"]["podCIDRs"])
}

fn cilium_node(object: &Value) -> Vec<String> {
    let spec = &object["spec"];
    internal_addresses(&spec["addresses"], "ip", &spec["ipam"]["podCIDRs"])
}

fn internal_addresses(addresses: &Value, field: &str, ranges: &Value) -> Vec<String> {
    let internal = items(addresses).filter(|address| address["type"] == "InternalIP");
    vec![joined(internal.map(|address| text(&address[field]))), joined(items(ranges).map(text))]
}

fn identity(object: &Value) -> Vec<String> {
    let labels = object["security-labels"].as_object().into_iter().flatten();
    vec![joined(labels.map(|(label, value)| format!("{label}={}", text(value))))]
}

fn endpoint(object: &Value) -> Vec<String> {
    let status = &object["status"];
    let pairs = items(&status["networking"]["addressing"]);
    let addresses = pairs.flat_map(|pair| [text(&pair["ipv4"]), text(&pair["ipv6"])]);
    vec![
        cell(&status["identity"]["id"]),
        joined(addresses.filter(|address| !address.is_empty())),
        cell(&status["networking"]["node"]),
        cell(&status["state"]),
    ]
}

#[cfg(test)]
mod tests;
