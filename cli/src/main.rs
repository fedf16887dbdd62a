//! `millrace`: asks the agent of this node and shows what it answers.
//!
//! In: the command line and the agent's socket. Out: tables for people, JSON or YAML for scripts, and an exit
//! code that means something (`exit.rs`). Start reading in `args.rs`; each command is a file in `commands`.
//! Spawns nothing that outlives it.

mod agent;
mod args;
mod commands;
mod exit;
mod kubectl;
mod output;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use agent::Agent;
use args::{Arguments, Command, ConnectivityCommand, EndpointCommand};
use exit::{Failure, Outcome};
use output::Output;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::from(error)),
    };
    match runtime.block_on(run(arguments)) {
        Ok(code) => code,
        Err(failure) => fail(&failure),
    }
}

#[expect(clippy::print_stderr, reason = "the error of a command line tool goes to stderr")]
fn fail(failure: &Failure) -> ExitCode {
    if !matches!(failure, Failure::OutputClosed) {
        eprintln!("error: {failure}");
    }
    failure.code()
}

async fn run(arguments: Arguments) -> Outcome {
    let agent = Agent::of(&arguments.common.run_dir);
    let output = Output::new(arguments.common.output, arguments.common.color);
    match &arguments.command {
        Command::Status(options) => commands::status::run(&agent, &output, options).await,
        Command::Get(options) => commands::get::run(&agent, &output, options).await,
        Command::Describe(options) => commands::describe::run(&agent, &output, options).await,
        Command::Service(command) => commands::service::run(&agent, &output, command).await,
        Command::Endpoint(EndpointCommand::List) => commands::endpoint::run(&agent, &output).await,
        Command::Config(command) => commands::config::run(&agent, &output, command).await,
        Command::Proxy(command) => commands::proxy::run(&agent, &output, command).await,
        Command::Bpf(command) => commands::bpf::run(&agent, &output, command).await,
        Command::Xds(command) => commands::xds::run(&agent, &output, command).await,
        Command::Tables(options) => commands::tables::run(&agent, &output, options).await,
        Command::Events(options) => commands::events::run(&agent, &output, options).await,
        Command::Version(options) => commands::version::run(&agent, &output, options).await,
        Command::Connectivity(ConnectivityCommand::Test(options)) => {
            commands::connectivity::run(&output, options)
        }
        Command::Sysdump(options) => commands::sysdump::run(&output, options),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "millrace", &mut script);
            output.text(&String::from_utf8_lossy(&script))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
