//! `millrace proxy`.

use std::process::ExitCode;

use serde_json::{Value, json};
use wildmatch::WildMatch;

use crate::agent::Agent;
use crate::args::ProxyCommand;
use crate::exit::{Failure, Outcome};
use crate::output::{Output, at, cell, items, rendered, state_cell, text};

/// Shows a part of the proxy.
pub(crate) async fn run(agent: &Agent, output: &Output, command: &ProxyCommand) -> Outcome {
    match command {
        ProxyCommand::Stats { pattern, all } => stats(agent, output, pattern.as_deref(), *all).await?,
        ProxyCommand::Clusters => {
            let clusters = agent.ask("/v1/proxy/clusters").await?;
            output.show(&clusters, |clusters| clusters_table(output, clusters))?;
        }
        ProxyCommand::Listeners => {
            let listeners = agent.ask("/v1/proxy/listeners").await?;
            output.show(&listeners, |listeners| listeners_table(output, listeners))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `name: value` lines as Envoy prints them; documents have every number that the pattern leaves, zeros too.
async fn stats(agent: &Agent, output: &Output, pattern: Option<&str>, all: bool) -> Outcome<()> {
    let stats = agent.ask("/v1/proxy/stats").await?;
    let pattern = pattern.map(|pattern| WildMatch::new(&format!("*{pattern}*")));
    let is_wanted = |stat: &&Value| {
        let name = stat["name"].as_str().unwrap_or_default();
        pattern.as_ref().is_none_or(|pattern| pattern.matches(name))
    };
    let mut wanted: Vec<Value> = items(&stats["stats"]).filter(is_wanted).cloned().collect();
    wanted.sort_by_cached_key(|stat| text(&stat["name"]));
    if wanted.is_empty() && pattern.is_some() {
        return Err(Failure::NotFound(
            "no number has this in its name; `millrace proxy stats --all` has all".to_owned(),
        ));
    }
    output.show(&json!({"stats": wanted}), |stats| {
        let lines = items(&stats["stats"])
            .filter(|stat| all || stat["value"] != 0 && stat["count"] != 0)
            .map(stat_line);
        lines.collect::<Vec<_>>().join("\n")
    })
}

/// A number, or of a histogram how many were counted and their sum.
fn stat_line(stat: &Value) -> String {
    let name = text(&stat["name"]);
    match stat.get("value") {
        Some(value) => format!("{name}: {value}"),
        None => format!("{name}: count {}, sum {}", stat["count"], stat["sum"]),
    }
}

/// `{"socket_address": {"address", "port_value"}}` as text.
fn socket_address(address: &Value) -> String {
    let address = &address["socket_address"];
    at(&address["address"], &address["port_value"])
}

fn clusters_table(output: &Output, clusters: &Value) -> String {
    let mut table = output.table(&["CLUSTER", "ENDPOINT", "HEALTH", "WEIGHT", "ACTIVE"]);
    for cluster in items(&clusters["cluster_statuses"]) {
        let hosts: Vec<&Value> = items(&cluster["host_statuses"]).collect();
        if hosts.is_empty() {
            let none = "none: requests get 503".to_owned();
            table.add_row([text(&cluster["name"]), none, "-".to_owned(), "-".to_owned(), "-".to_owned()]);
        }
        for host in hosts {
            let active = items(&host["stats"]).find(|stat| stat["name"] == "rq_active");
            table.add_row(vec![
                text(&cluster["name"]).into(),
                socket_address(&host["address"]).into(),
                state_cell(&text(&host["health_status"]["eds_health_status"])),
                cell(&host["weight"]).into(),
                active.map(|stat| cell(&stat["value"])).unwrap_or_default().into(),
            ]);
        }
    }
    rendered(&table)
}

fn listeners_table(output: &Output, listeners: &Value) -> String {
    let mut table = output.table(&["LISTENER", "ADDRESS", "SOCKETS"]);
    for listener in items(&listeners["listeners"]["listener_statuses"]) {
        let first = listener["local_address"].as_object().map(|_| socket_address(&listener["local_address"]));
        let more = items(&listener["additional_local_addresses"]).map(socket_address);
        let addresses: Vec<String> = first.into_iter().chain(more).collect();
        let sockets = items(&listener["sockets"]).count();
        let sockets = match sockets {
            0 => "none of its own: connections are redirected to it".to_owned(),
            some => some.to_string(),
        };
        table.add_row([text(&listener["name"]), addresses.join("\n"), sockets]);
    }
    for failed in items(&listeners["without_socket"]) {
        table.add_row([
            cell(&failed["listener"]),
            cell(&failed["address"]),
            format!("not open: {}", cell(&failed["error"])),
        ]);
    }
    rendered(&table)
}
