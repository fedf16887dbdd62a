//! What each command prints.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::agent::ask;
use crate::args::{DumpOptions, GetOptions, Output, OutputOptions};
use crate::view;

/// Exit code when what was asked for is not there.
const ABSENT: u8 = 3;

/// `millrace get`.
pub(crate) async fn get(options: &GetOptions) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/get/{}", options.kind.path());
    let Some(answer) = ask(&options.common.agent.run_dir, &path).await? else {
        bail!("this agent does not know {}", options.kind.path());
    };
    let Value::Array(mut objects) = answer else { bail!("the agent's answer is no list") };
    let metadata = |object: &Value, field: &str| object["metadata"][field].as_str().map(str::to_owned);
    if let Some(namespace) = &options.namespace {
        objects.retain(|object| metadata(object, "namespace").as_ref() == Some(namespace));
    }
    if let Some(name) = &options.name {
        objects.retain(|object| metadata(object, "name").as_ref() == Some(name));
        if objects.is_empty() {
            say_absent(&format!("{} {name} is not there", options.kind.path()))?;
            return Ok(ExitCode::from(ABSENT));
        }
    }
    match options.common.output {
        Output::Table if objects.is_empty() => say_absent("nothing found")?,
        Output::Table => print(&view::objects(options.kind, &objects).to_string())?,
        structured => {
            let document = match (&options.name, objects.len()) {
                (Some(_), 1) => objects.remove(0),
                _ => json!({"apiVersion": "v1", "kind": "List", "items": objects}),
            };
            print_structured(&document, structured)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `millrace status`. Exit code 1 when a part is not healthy.
pub(crate) async fn status(options: &OutputOptions) -> anyhow::Result<ExitCode> {
    let answer = ask(&options.agent.run_dir, "/v1/status").await?.context("the agent tells no status")?;
    match options.output {
        Output::Table => print(&view::health(&answer))?,
        structured => print_structured(&answer, structured)?,
    }
    let healthy = answer["healthy"].as_bool().unwrap_or(false);
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// `millrace dump`.
pub(crate) async fn dump(options: &DumpOptions) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/dump/{}", options.part.path());
    match ask(&options.agent.run_dir, &path).await? {
        Some(answer) => {
            print_structured(&answer, Output::Json)?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            say_absent("the agent has nothing of this: it does not redirect")?;
            Ok(ExitCode::from(ABSENT))
        }
    }
}

fn print_structured(document: &Value, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Yaml => print(&serde_saphyr::to_string(document)?),
        _ => print(&serde_json::to_string_pretty(document)?),
    }
}

/// A closed pipe, as under `| head`, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn say_absent(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stderr(), "{text}")?)
}
