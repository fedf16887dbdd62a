//! `millrace`: asks the agent of this node and shows what it answers.
//!
//! In: the command line and the agent's socket. Out: tables for people, JSON or YAML for scripts. Exit
//! code 0: done; 1: the agent does not answer or refuses; 2: wrong usage; 3: the object asked for is not
//! there. Start reading in `args.rs`; `view.rs` turns objects into rows. Spawns nothing that outlives it.

mod agent;
mod args;
mod show;
mod view;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::from(error)),
    };
    match runtime.block_on(run(arguments)) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

#[expect(clippy::print_stderr, reason = "the error of a command line tool goes to stderr")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(1)
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Get(get) => show::get(&get).await,
        Command::Status(status) => show::status(&status).await,
        Command::Dump(dump) => show::dump(&dump).await,
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "millrace", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}
