//! `cluster`: the command line of the harness. `cargo xtask cluster` builds and runs it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to whoever started it")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use mesh_conformance_cluster::chart::{self, Chart};
use mesh_conformance_cluster::cluster::{self, Cluster};
use mesh_conformance_cluster::dns;
use mesh_conformance_cluster::e2e::{self, E2e, Outcome, Selection};
use mesh_conformance_cluster::programs::Programs;
use mesh_conformance_cluster::spec::{Cni, DEFAULT_NAME, IpFamily, Spec};
use mesh_conformance_cluster::status::Status;
use mesh_oci::Image;

/// A real Kubernetes on this machine, for tests: nodes in namespaces, no virtual machine, no container engine.
/// Needs root. `build` and `e2e` are tasks beside these: `cargo xtask cluster build --help`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask cluster", bin_name = "cargo xtask cluster", about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Name of the cluster: 1 to 8 lower-case letters and digits. Clusters of different names live side by side.
    #[arg(long, global = true, default_value = DEFAULT_NAME, env = "MILLRACE_CLUSTER")]
    name: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a cluster, or start what is missing of it.
    Up(Up),
    /// Remove it and everything that belongs to it, after a crash too.
    Down,
    /// Show what runs. The exit code tells whether all is well.
    Status(Output),
    /// Give the nodes images: archives, or static programs of which an image is made.
    LoadImage(LoadImage),
    /// Install Millrace by its chart, or upgrade it. For clusters of `up --cni none`.
    Install(Install),
    /// Uninstall Millrace.
    Uninstall(Within),
    /// Run Kubernetes' own tests of the network against it: `cargo xtask conformance e2e`.
    #[command(hide = true)]
    KubernetesE2e(KubernetesE2e),
    /// Run Helm as the administrator.
    #[command(disable_help_flag = true)]
    Helm(Rest),
    /// Print the path of the administrator's kubeconfig.
    Kubeconfig(Kubeconfig),
    /// Run kubectl as the administrator.
    #[command(disable_help_flag = true)]
    Kubectl(Rest),
    /// Run a program on a node: in its network, mounts and cgroup.
    Exec(Exec),
}

#[derive(Debug, Args)]
struct Up {
    /// How many nodes.
    #[arg(long, default_value_t = 2)]
    nodes: u8,
    /// Address families of nodes, pods and Services.
    #[arg(long, value_enum, default_value_t = IpFamily::Ipv4)]
    ip_family: IpFamily,
    /// Who connects pods.
    #[arg(long, value_enum, default_value_t = Cni::Bridge)]
    cni: Cni,
    /// With a DNS for the cluster's names. It needs somebody who makes Services' addresses work.
    #[arg(long)]
    dns: bool,
}

#[derive(Debug, Args)]
struct Output {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Debug, Args)]
struct LoadImage {
    /// Archives of images (OCI or Docker), or with --reference static programs.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Make one image of this name with the files as programs, the first being what is run.
    #[arg(long, value_name = "NAME:TAG")]
    reference: Option<String>,
    /// Only this node.
    #[arg(long)]
    node: Option<String>,
}

#[derive(Debug, Args)]
struct Install {
    /// A value of the chart, as `helm --set` takes it. Repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    within: Within,
}

#[derive(Debug, Args)]
struct KubernetesE2e {
    /// The tests, as Kubernetes builds them.
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// Where root file systems of images are kept.
    #[arg(long, value_name = "DIR")]
    cache: PathBuf,
    /// Tests that are not run: `name<TAB>reason` on each line.
    #[arg(long, value_name = "FILE")]
    skips: PathBuf,
    /// Where the outcome of each test is written.
    #[arg(long, value_name = "FILE")]
    report: PathBuf,
    /// The commit that is noted in it.
    #[arg(long)]
    commit: String,
    /// Only tests with this in their names. Repeatable.
    #[arg(long, value_name = "TEXT")]
    focus: Vec<String>,
    /// A part of them, such as 1/4.
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// Print their names and run nothing.
    #[arg(long)]
    list: bool,
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let wrong = || format!("`{text}` is no part; write 1/4 for the first of four");
    let (number, of) = text.split_once('/').ok_or_else(wrong)?;
    let (number, of) = (number.parse().map_err(|_| wrong())?, of.parse().map_err(|_| wrong())?);
    if number == 0 || number > of { Err(wrong()) } else { Ok((number, of)) }
}

#[derive(Debug, Args)]
struct Within {
    /// Seconds that it may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    within: u64,
}

impl Within {
    fn time(&self) -> Duration {
        Duration::from_secs(self.within)
    }
}

#[derive(Debug, Args)]
struct Kubeconfig {
    /// Print what is in it, with the administrator's token.
    #[arg(long)]
    content: bool,
}

#[derive(Debug, Args)]
struct Rest {
    /// What kubectl is given.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[derive(Debug, Args)]
struct Exec {
    /// The node.
    node: String,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what is asked. False when something is not well.
fn run(Arguments { command, name }: Arguments) -> anyhow::Result<bool> {
    Ok(match command {
        Command::Up(options) => {
            let spec = Spec { name, nodes: options.nodes, ip_family: options.ip_family, cni: options.cni };
            up(&spec, options.dns)?;
            true
        }
        Command::Down => {
            let start = Instant::now();
            match cluster::down(&name)? {
                true => println!("cluster {name} is gone, after {:.1} s", start.elapsed().as_secs_f32()),
                false => println!("there is no cluster {name}"),
            }
            true
        }
        Command::Status(options) => status(&name, options.output)?,
        Command::LoadImage(options) => {
            load_image(&Cluster::connect(&name)?, options)?;
            true
        }
        Command::Install(options) => {
            let (cluster, chart) = (Cluster::connect(&name)?, Chart::from_environment()?);
            let start = Instant::now();
            chart.load_images(&cluster)?;
            chart.install(&cluster, &options.set, options.within.time())?;
            println!("Millrace is ready after {:.1} s", start.elapsed().as_secs_f32());
            true
        }
        Command::Uninstall(within) => {
            Chart::from_environment()?.uninstall(&Cluster::connect(&name)?, within.time())?;
            true
        }
        Command::KubernetesE2e(options) => kubernetes_e2e(&Cluster::connect(&name)?, options)?,
        Command::Helm(rest) => {
            let mut helm = chart::helm(&Cluster::connect(&name)?)?;
            helm.args(rest.arguments).status()?.success()
        }
        Command::Kubeconfig(options) => {
            let path = Cluster::connect(&name)?.kubeconfig();
            match options.content {
                true => print!("{}", std::fs::read_to_string(path)?),
                false => println!("{}", path.display()),
            }
            true
        }
        Command::Kubectl(rest) => {
            let mut kubectl = Cluster::connect(&name)?.kubectl_command()?;
            kubectl.args(rest.arguments).status()?.success()
        }
        Command::Exec(exec) => {
            let cluster = Cluster::connect(&name)?;
            let mut words = exec.command.into_iter();
            let mut command = cluster.node(&exec.node)?.command(words.next().unwrap_or_default())?;
            command.args(words).status()?.success()
        }
    })
}

fn up(spec: &Spec, with_dns: bool) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut progress = |phase: &str, took: Duration| println!("{:6.1} s  {phase}", took.as_secs_f32());
    let cluster = Cluster::up(spec, Programs::from_environment()?, &mut progress)?;
    if with_dns {
        dns::install(&cluster)?;
    }
    println!("{:6.1} s  in all", start.elapsed().as_secs_f32());
    if spec.cni == Cni::None {
        println!("nodes stay NotReady until a CNI is installed");
    }
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    Ok(())
}

fn status(name: &str, format: Format) -> anyhow::Result<bool> {
    let status = Status::of(&Cluster::connect(name)?);
    match format {
        Format::Table => print!("{}", status.table()),
        Format::Json => println!("{}", serde_json::to_string_pretty(&status)?),
    }
    Ok(status.well)
}

/// Prints and writes the outcome of each; false when one failed.
fn kubernetes_e2e(cluster: &Cluster, options: KubernetesE2e) -> anyhow::Result<bool> {
    let tests = E2e::new(cluster, &options.program)?;
    let skipped = e2e::read_skipped(&options.skips)?;
    let selection = Selection { focus: options.focus, shard: options.shard, skipped };
    let names = tests.select(&selection)?;
    if options.list {
        names.iter().for_each(|name| println!("{name}"));
        return Ok(true);
    }
    tests.load_images(&options.cache)?;
    let log = options.report.with_extension("log");
    println!("{} tests; what they say: {}", names.len(), log.display());
    let outcomes = tests.run(&names, &log)?;
    let mut report = format!("commit {}\n", options.commit);
    for Outcome { test, failure, seconds } in &outcomes {
        let state = if failure.is_none() { "passed" } else { "FAILED" };
        let line = format!("{state}  {seconds:4} s  {test}");
        println!("{line}");
        report.push_str(&format!("{line}\n"));
        for line in failure.iter().flat_map(|text| text.lines()).take(6) {
            println!("        {line}");
            report.push_str(&format!("        {line}\n"));
        }
    }
    for (test, reason) in &selection.skipped {
        println!("SKIPPED: {test}: {reason}");
        report.push_str(&format!("skipped         {test}: {reason}\n"));
    }
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let total =
        format!("{} passed, {failed} failed, {} skipped", outcomes.len() - failed, selection.skipped.len());
    std::fs::write(&options.report, report + &total + "\n")?;
    println!("{total}");
    Ok(failed == 0)
}

fn load_image(cluster: &Cluster, options: LoadImage) -> anyhow::Result<()> {
    let node = options.node.as_deref();
    let Some(reference) = options.reference else {
        for file in &options.files {
            cluster.load_image(file, node)?;
            println!("loaded {}", file.display());
        }
        return Ok(());
    };
    let file = cluster.image_file();
    Image::of_programs(&reference, &options.files, Vec::new())?.write(&file)?;
    let loaded = cluster.load_image(&file, node);
    std::fs::remove_file(&file)?;
    loaded?;
    println!("loaded {reference}");
    Ok(())
}
