//! `millrace events`.

use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::Value;
use wildmatch::WildMatch;

use crate::agent::Agent;
use crate::args::EventsOptions;
use crate::exit::Outcome;
use crate::output::{Output, text};

/// Prints the last events, and with `--follow` those to come until the agent ends: that is exit code 3.
pub(crate) async fn run(agent: &Agent, output: &Output, options: &EventsOptions) -> Outcome {
    let kinds: Vec<WildMatch> = options.kind.iter().map(|kind| WildMatch::new(kind)).collect();
    let is_wanted = |event: &Value| {
        let kind = text(&event["kind"]);
        // What was lost may have been wanted.
        let is_of_kind =
            kinds.is_empty() || kind == "events-lost" || kinds.iter().any(|wanted| wanted.matches(&kind));
        is_of_kind && (!options.warnings || event["severity"] == "warning")
    };
    // Chosen here, so that `--last` counts the chosen ones: all that are remembered are asked for.
    let remembered = all(agent).await?;
    let chosen: Vec<Value> = remembered.into_iter().filter(|event| is_wanted(event)).collect();
    let skipped = chosen.len().saturating_sub(options.last);
    for event in &chosen[skipped..] {
        output.streamed(event, |event| line(output, event))?;
    }
    if !options.follow {
        return Ok(ExitCode::SUCCESS);
    }
    let mut told = chosen.last().and_then(|event| event["sequence"].as_u64()).unwrap_or_default();
    agent
        .stream("/v1/events?follow=true", |event| {
            let sequence = event["sequence"].as_u64().unwrap_or_default();
            // A lost one has no number; others come again from the memory.
            if (sequence > 0 && sequence <= told) || !is_wanted(&event) {
                return Ok(());
            }
            told = told.max(sequence);
            output.streamed(&event, |event| line(output, event))
        })
        .await?;
    Err(agent.ended())
}

async fn all(agent: &Agent) -> Outcome<Vec<Value>> {
    let mut events = Vec::new();
    agent
        .stream("/v1/events", |event| {
            events.push(event);
            Ok(())
        })
        .await?;
    Ok(events)
}

/// `12:00:00.123  xds-refused        Listener a: why`.
fn line(output: &Output, event: &Value) -> String {
    let time = text(&event["time"]);
    let time = match time.parse::<Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        Err(_) => time,
    };
    let kind = format!("{:<17}", text(&event["kind"]));
    let kind = if event["severity"] == "warning" { output.bad(&kind) } else { kind };
    let subject = match text(&event["subject"]) {
        none if none.is_empty() => none,
        subject => format!("{subject}: "),
    };
    format!("{time}  {kind}  {subject}{}", text(&event["message"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::line;
    use crate::args::{ColorChoice, Format};
    use crate::output::Output;

    #[test]
    fn an_event_is_one_line_with_its_time_kind_and_subject() {
        let event = json!({
            "sequence": 7, "time": "2026-01-02T03:04:05.678912Z", "kind": "xds-refused", "severity": "warning",
            "subject": "Listener a", "message": "no", "details": null,
        });
        let plain = line(&Output::new(Format::Table, ColorChoice::Never), &event);
        assert_eq!(plain, "2026-01-02T03:04:05.678Z  xds-refused        Listener a: no");
        let coloured = line(&Output::new(Format::Table, ColorChoice::Always), &event);
        assert!(coloured.contains("\u{1b}[31mxds-refused"), "{coloured:?}");
    }
}
