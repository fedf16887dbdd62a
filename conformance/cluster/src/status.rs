//! What runs of a cluster, as a table and as JSON.

use comfy_table::{Table, presets};
use k8s_openapi::api::core::v1::Node as NodeObject;
use serde::Serialize;

use crate::cluster::{Cluster, node_is_ready};
use crate::process::Place;
use crate::{control_plane, node};

/// State of a node that takes pods.
const READY: &str = "Ready";

/// What runs of a cluster.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Name.
    pub name: String,
    /// Whether everything runs and each node is ready.
    pub well: bool,
    /// Address families.
    pub ip_family: String,
    /// Who connects pods.
    pub cni: String,
    /// Where the API server listens.
    pub api_server: String,
    /// The administrator's kubeconfig.
    pub kubeconfig: String,
    /// Programs, of the control plane first.
    pub programs: Vec<Program>,
    /// Nodes.
    pub nodes: Vec<NodeStatus>,
    /// Why the API server did not answer, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A program that is to run.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// `control` or its node.
    pub place: String,
    /// Its process, if it runs.
    pub process: Option<u32>,
}

/// A node.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Ready, or what the node says is missing; unknown when the API does not answer.
    pub state: String,
    /// Addresses.
    pub addresses: Vec<String>,
    /// Ranges of its pods.
    pub pod_ranges: Vec<String>,
    /// Its cgroup, and the name of its network namespace.
    pub cgroup: String,
}

impl Status {
    /// Looks at each process, and asks the API server.
    pub fn of(cluster: &Cluster) -> Self {
        let spec = cluster.spec();
        let mut programs = running("control", cluster.control(), control_plane::PROGRAMS);
        programs.extend(
            cluster.nodes().iter().flat_map(|node| running(node.name(), &node.place(), node::PROGRAMS)),
        );
        let asked = cluster.api_answers().and_then(|()| cluster.node_objects());
        let (objects, problem) = match asked {
            Ok(objects) => (objects, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        let nodes = (1..).zip(cluster.nodes()).map(|(number, node)| {
            let object = objects.iter().find(|object| object.metadata.name.as_deref() == Some(node.name()));
            let spec_of = object.and_then(|object| object.spec.as_ref());
            NodeStatus {
                name: node.name().to_owned(),
                state: object.map_or_else(|| "unknown".to_owned(), state),
                addresses: spec.plan().addresses(number).iter().map(ToString::to_string).collect(),
                pod_ranges: spec_of.and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default(),
                cgroup: node.cgroup().path(),
            }
        });
        let nodes: Vec<NodeStatus> = nodes.collect();
        let all_run = programs.iter().all(|program| program.process.is_some());
        Self {
            name: spec.name.clone(),
            well: problem.is_none() && all_run && nodes.iter().all(|node| node.state == READY),
            ip_family: spec.ip_family.to_string(),
            cni: spec.cni.to_string(),
            api_server: spec.plan().api_server(),
            kubeconfig: cluster.kubeconfig().display().to_string(),
            programs,
            nodes,
            problem,
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "cluster {}: {}, CNI {}, API server {}\nkubeconfig {}\n\n",
            self.name, self.ip_family, self.cni, self.api_server, self.kubeconfig
        );
        let mut nodes = table(&["NODE", "STATE", "ADDRESSES", "PODS", "CGROUP"]);
        for node in &self.nodes {
            let row = [
                &node.name,
                &node.state,
                &node.addresses.join(" "),
                &node.pod_ranges.join(" "),
                &node.cgroup,
            ];
            nodes.add_row(row);
        }
        let mut programs = table(&["PROGRAM", "PLACE", "PROCESS"]);
        for program in &self.programs {
            let process = program.process.map_or_else(|| "ENDED".to_owned(), |id| id.to_string());
            programs.add_row([&program.name, &program.place, &process]);
        }
        text.push_str(&format!("{nodes}\n\n{programs}\n"));
        if let Some(problem) = &self.problem {
            text.push_str(&format!("\nthe API server does not answer: {problem}\n"));
        }
        if !self.well {
            text.push_str("\nnot all is well: `cargo xtask cluster up` starts what has ended");
            text.push_str("; nodes without a CNI become ready once one is installed\n");
        }
        text
    }
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}

fn running(place_name: &str, place: &Place, names: &[&str]) -> Vec<Program> {
    let program = |name: &&str| Program {
        name: (*name).to_owned(),
        place: place_name.to_owned(),
        process: place.recorded(name).filter(|process| process.runs()).map(|process| process.id),
    };
    names.iter().map(program).collect()
}

/// Ready, or why not in the node's own words.
fn state(node: &NodeObject) -> String {
    if node_is_ready(node) {
        return READY.to_owned();
    }
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    let message = ready.and_then(|condition| condition.message.clone());
    format!("NotReady: {}", message.unwrap_or_else(|| "the node has not reported yet".to_owned()))
}
