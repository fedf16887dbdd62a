//! The rows of the matrix.

mod churn;
mod load;
mod memory;
mod propagation;
mod routes;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::args::Options;
use crate::cores;
use crate::peers::Setting;

/// What a row has to say.
pub(crate) struct Finding {
    /// For people.
    pub(crate) text: String,
    /// For programs.
    pub(crate) data: Value,
    /// Bars of the row: what is asked, and whether it holds.
    pub(crate) bars: Vec<(String, bool)>,
}

/// What all rows share.
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    pub(crate) runtime: Runtime,
    pub(crate) setting: Setting,
}

type Row = (u32, &'static str, fn(&Bench<'_>) -> anyhow::Result<Finding>);

/// In the order in which they are worth measuring.
const ROWS: [Row; 8] = [
    (1, "HTTP/1 keep-alive, 1 KiB, 64 connections", load::keep_alive),
    (2, "HTTP/1, a new connection for each request", load::new_connection),
    (5, "HTTP/2 to HTTP/1", load::http2),
    (14, "many routes", routes::measure),
    (16, "propagation with 10,000 routes", propagation::measure),
    (17, "a hundred changes a second under load", churn::measure),
    (19, "idle memory", memory::idle),
    (20, "memory of routes", memory::routes),
];

/// Measures. False: a bar is missed or a row failed.
///
/// # Errors
/// The machine has one core only, or there is no backend.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    cores::bind(cores::LOAD).context("the benchmark needs two cores")?;
    for row in &options.rows {
        ensure!(ROWS.iter().any(|(known, ..)| known == row), "row {row} is not built");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let backend = Backend::start()?;
    let bench = Bench { options, runtime, setting: Setting { backend: backend.address, log: options.log } };
    let mut all = true;
    let mut records = Vec::new();
    let (mut passed, mut failed) = (0, 0);
    for (number, title, measure) in ROWS {
        if !options.rows.is_empty() && !options.rows.contains(&number) {
            continue;
        }
        eprintln!("== row {number}: {title}");
        match measure(&bench) {
            Ok(finding) => {
                if !options.json {
                    println!("\n== row {number}: {title}\n{}", finding.text);
                }
                let mut bars = Vec::new();
                for (bar, holds) in &finding.bars {
                    if !options.json {
                        println!("{}: {bar}", if *holds { "holds" } else { "MISSED" });
                    }
                    passed += u32::from(*holds);
                    failed += u32::from(!holds);
                    bars.push(json!({ "bar": bar, "holds": holds }));
                }
                records.push(json!({ "row": number, "title": title, "data": finding.data, "bars": bars }));
            }
            Err(error) => {
                eprintln!("error: row {number}: {error:#}");
                failed += 1;
                records.push(json!({ "row": number, "title": title, "error": format!("{error:#}") }));
            }
        }
        all &= failed == 0;
    }
    if options.json {
        println!("{}", json!({ "rows": records }));
    }
    println_summary(options.json, passed, failed);
    Ok(all)
}

/// On stderr when stdout is for a program.
fn println_summary(json: bool, passed: u32, failed: u32) {
    let line = format!("{passed} passed, {failed} failed, 0 skipped");
    if json { eprintln!("{line}") } else { println!("{line}") }
}

/// The process that answers. Killed when dropped.
struct Backend {
    process: Child,
    address: SocketAddr,
}

impl Backend {
    fn start() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("backend").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = cores::spawn(cores::LOAD, &mut command).context("cannot start the backend")?;
        let mut port = String::new();
        let stdout = process.stdout.take().context("the backend has no stdout")?;
        BufReader::new(stdout).read_line(&mut port)?;
        let port: u16 = port.trim().parse().context("the backend names no port")?;
        Ok(Self { process, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
