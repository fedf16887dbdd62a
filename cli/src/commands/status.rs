//! `millrace status`.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::args::{Format, StatusOptions};
use crate::exit::{FAILED, Failure, Outcome};
use crate::output::{Output, cell, indented, items, printable, rendered, state_cell, text};

/// How often a waiting status is asked for.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Exit code 1 when a part is degraded.
pub(crate) async fn run(agent: &Agent, output: &Output, options: &StatusOptions) -> Outcome {
    let path = if options.verbose { "/v1/status?verbose=true" } else { "/v1/status" };
    let status = match options.wait {
        true => wait(agent, path, options.wait_duration).await?,
        false => agent.ask(path).await?,
    };
    let is_healthy = status["healthy"].as_bool().unwrap_or_default();
    if options.brief && output.format() == Format::Table {
        output.text(&brief(output, &printable(&status)))?;
    } else {
        output.show(&status, |status| for_people(output, status, options.verbose))?;
    }
    Ok(if is_healthy { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// The first healthy status, or the last one when the time is over. An agent that is not there yet is waited
/// for as well.
async fn wait(agent: &Agent, path: &str, within: Duration) -> Outcome<Value> {
    let deadline = Instant::now() + within;
    // What is told when the time is over.
    let mut last = agent.ask_within(path, within).await;
    loop {
        match last {
            Ok(status) if status["healthy"] == true => return Ok(status),
            Err(failure) if !matches!(failure, Failure::Unreachable { .. }) => return Err(failure),
            _ => {}
        }
        let again = async {
            tokio::time::sleep(ASK_EVERY).await;
            agent.ask(path).await
        };
        match tokio::time::timeout_at(deadline, again).await {
            Ok(asked) => last = asked,
            Err(_) => return last,
        }
    }
}

fn brief(output: &Output, status: &Value) -> String {
    match items(&status["parts"]).find(|part| part["state"] == "degraded") {
        None => output.word("OK"),
        Some(part) => {
            let state = output.word(&text(&part["state"]));
            format!("{} {state}: {}{}", text(&part["name"]), text(&part["detail"]), fix_of(part))
        }
    }
}

fn fix_of(part: &Value) -> String {
    match text(&part["fix"]) {
        fix if fix.is_empty() => fix,
        fix => format!(" (to mend: {fix})"),
    }
}

fn for_people(output: &Output, status: &Value, verbose: bool) -> String {
    let mut sections = vec![parts(output, status)];
    let problems: Vec<String> =
        items(&status["problems"]).map(|problem| problem_line(output, problem)).collect();
    if !problems.is_empty() {
        sections.push(format!("Problems:\n{}", indented(&problems.join("\n"))));
    }
    if verbose {
        sections.extend(in_full(output, status));
    }
    sections.join("\n\n")
}

fn parts(output: &Output, status: &Value) -> String {
    let mut table = output.prose_table(&["PART", "STATE", "DETAIL"]);
    for part in items(&status["parts"]) {
        let detail = format!("{}{}", text(&part["detail"]), fix_of(part));
        table.add_row(vec![text(&part["name"]).into(), state_cell(&text(&part["state"])), detail.into()]);
    }
    rendered(&table)
}

fn problem_line(output: &Output, problem: &Value) -> String {
    let places = ["source", "object", "field"].map(|field| text(&problem[field]));
    let place = places.into_iter().filter(|place| !place.is_empty()).collect::<Vec<_>>().join(": ");
    let severity = output.word(&text(&problem["severity"]));
    format!("{severity}  {place}: {}{}", text(&problem["message"]), fix_of(problem))
}

fn in_full(output: &Output, status: &Value) -> Vec<String> {
    let mut sections = vec![agent_lines(status)];
    sections.extend(processes(output, &status["processes"]));
    let clients = super::xds::clients_table(output, &status["clients"]);
    if !clients.is_empty() {
        sections.push(format!(
            "xDS clients (revision {} is offered):\n{}",
            status["revision"],
            indented(&clients)
        ));
    }
    sections.extend(datapath(output, &status["datapath"]));
    sections
}

fn agent_lines(status: &Value) -> String {
    let objects: Vec<String> = status["objects"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    let commit = status["commit"].as_str().map(|commit| format!(" ({commit})")).unwrap_or_default();
    format!(
        "Agent:    version {}{commit}, up {} s, mode {}\nObjects:  {}",
        text(&status["version"]),
        status["uptimeSeconds"],
        text(&status["mode"]),
        if objects.is_empty() { "none".to_owned() } else { objects.join(", ") },
    )
}

fn processes(output: &Output, status: &Value) -> Option<String> {
    status.as_object()?;
    let mut table = output.table(&["PROCESS", "PID", "STATE", "VERSION", "UP", "DETAIL"]);
    let capabilities = match cell(&status["capabilities"]) {
        none if none == "-" => "no capabilities".to_owned(),
        some => some,
    };
    table.add_row([
        "starter".to_owned(),
        status["pid"].to_string(),
        "running".to_owned(),
        text(&status["version"]),
        format!("{} s", status["uptime_s"]),
        format!("{} restarts of workers; {capabilities}", status["restarts"]),
    ]);
    for worker in items(&status["workers"]) {
        table.add_row([
            "worker".to_owned(),
            worker["pid"].to_string(),
            text(&worker["state"]),
            cell(&worker["version"]),
            format!("{} s", worker["uptime_s"]),
            format!("generation {}, {} threads", worker["generation"], status["worker_threads"]),
        ]);
    }
    let ended = match text(&status["last_exit"]) {
        none if none.is_empty() => none,
        ended => format!("\n  the last worker that died: {ended}"),
    };
    Some(format!("Proxy processes:\n{}{ended}", indented(&rendered(&table))))
}

fn datapath(output: &Output, datapath: &Value) -> Vec<String> {
    if datapath.is_null() {
        return vec!["Datapath: none, plain listeners serve".to_owned()];
    }
    let mut plan = output.prose_table(&["NEED", "CHOSEN", "WHY"]);
    for choice in items(&datapath["plan"]["choices"]) {
        plan.add_row([text(&choice["need"]), text(&choice["chosen"]), text(&choice["why"])]);
    }
    let mut kernel = output.prose_table(&["KERNEL", "SUPPORT", "REASON"]);
    let features = datapath["kernel"].as_object().into_iter().flatten();
    for (feature, support) in features.filter(|(_, support)| is_support(support)) {
        let (state, reason) = support_text(support);
        kernel.add_row(vec![feature.clone().into(), state_cell(&state), reason.into()]);
    }
    let programs = datapath["verifiedInstructions"].as_object().into_iter().flatten();
    let mut verified = output.table(&["PROGRAM", "INSTRUCTIONS VERIFIED"]);
    for (name, count) in programs {
        verified.add_row([name.clone(), count.to_string()]);
    }
    let mut sections = vec![
        format!("Datapath, on {}:\n{}", cell(&datapath["devices"]), indented(&rendered(&plan))),
        format!(
            "What kernel {} can:\n{}",
            text(&datapath["kernel"]["release"]),
            indented(&rendered(&kernel))
        ),
    ];
    if verified.row_count() > 0 {
        sections.push(format!("Programs:\n{}", indented(&rendered(&verified))));
    }
    if datapath["maps"].is_array() {
        let maps = super::bpf::overview(output, &datapath["maps"]);
        sections.push(format!("Maps:\n{}", indented(&maps)));
    }
    sections
}

/// `"present"`, or `{"absent": {"reason": "..."}}`; other fields of the kernel are not of this kind.
fn is_support(value: &Value) -> bool {
    value == "present"
        || value
            .as_object()
            .is_some_and(|fields| fields.contains_key("absent") || fields.contains_key("unknown"))
}

fn support_text(support: &Value) -> (String, String) {
    match support.as_object().and_then(|fields| fields.iter().next()) {
        Some((state, why)) => (state.clone(), text(&why["reason"])),
        None => (text(support), String::new()),
    }
}
