//! `cluster`: the command line of the harness. `cargo xtask cluster` builds and runs it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to whoever started it")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use mesh_conformance_cluster::cluster::{self, Cluster};
use mesh_conformance_cluster::image::Image;
use mesh_conformance_cluster::programs::Programs;
use mesh_conformance_cluster::spec::{Cni, DEFAULT_NAME, IpFamily, Spec};
use mesh_conformance_cluster::status::Status;

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
            up(&spec)?;
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

fn up(spec: &Spec) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut progress = |phase: &str, took: Duration| println!("{:6.1} s  {phase}", took.as_secs_f32());
    let cluster = Cluster::up(spec, Programs::from_environment()?, &mut progress)?;
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
    let image = Image { reference: reference.clone(), programs: options.files, arguments: Vec::new() };
    image.write(&file)?;
    let loaded = cluster.load_image(&file, node);
    std::fs::remove_file(&file)?;
    loaded?;
    println!("loaded {reference}");
    Ok(())
}
