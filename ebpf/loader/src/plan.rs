//! From what is wanted and what the kernel can do to what will be done. Pure.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::features::{KernelFeatures, Support};

/// What is wanted of the datapath.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct DatapathConfig {
    /// Folder on a BPF file system that everything is pinned below; one for each node.
    pub pin_root: PathBuf,
    /// How programs are attached to devices.
    pub device_attachment: DeviceAttachmentChoice,
    /// Balance services of this node's processes and pods at their socket calls.
    pub socket_lb: bool,
    /// With `socket_lb`: the node's own processes only, not pods.
    pub socket_lb_host_only: bool,
    /// The cgroup whose processes are served, and all below it; the first cgroup v2 mount if not given.
    pub cgroup: Option<PathBuf>,
    /// One event in so many is reported; 0 is none.
    pub event_sampling: u32,
    /// Packets for this node's pods go through the stack, as netfilter's rules of somebody else may ask.
    pub legacy_host_routing: bool,
}

impl Default for DatapathConfig {
    fn default() -> Self {
        Self {
            pin_root: PathBuf::from("/sys/fs/bpf/millrace"),
            device_attachment: DeviceAttachmentChoice::Auto,
            socket_lb: true,
            socket_lb_host_only: false,
            cgroup: None,
            event_sampling: 0,
            legacy_host_routing: false,
        }
    }
}

/// How programs are to be attached to devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceAttachmentChoice {
    /// tcx where there is tcx.
    #[default]
    Auto,
    /// tcx or an error.
    Tcx,
    /// clsact even where there is tcx.
    Clsact,
}

/// How programs are attached to devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceAttachment {
    /// By pinned links, replaced atomically.
    Tcx,
    /// By filters of the clsact queueing discipline.
    Clsact,
}

/// The socket hooks of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SocketHooks {
    /// The cgroup they are attached to.
    pub cgroup: PathBuf,
    /// Sockets of other network namespaces are left alone.
    pub host_only: bool,
}

/// One decision, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// What had to be decided.
    pub need: &'static str,
    /// What was chosen.
    pub chosen: String,
    /// Why, and what else there is.
    pub why: String,
}

/// What will be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatapathPlan {
    /// Folder that everything is pinned below.
    pub pin_root: PathBuf,
    /// How programs are attached to devices.
    pub device_attachment: DeviceAttachment,
    /// The socket hooks, if wanted.
    pub socket_hooks: Option<SocketHooks>,
    /// One event in so many is reported; 0 is none.
    pub event_sampling: u32,
    /// Packets for this node's pods are handed to them past the stack.
    pub host_routing: bool,
    /// The decisions, in the order of the path.
    pub choices: Vec<Choice>,
}

impl DatapathPlan {
    /// Whether pods' packets to Services are balanced at their devices: where their socket calls are not.
    pub fn pod_lb(&self) -> bool {
        self.socket_hooks.as_ref().is_none_or(|hooks| hooks.host_only)
    }
}

impl fmt::Display for DatapathPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Choice { need, chosen, why } in &self.choices {
            writeln!(f, "{need:<20} {chosen} ({why})")?;
        }
        Ok(())
    }
}

/// A need that cannot be met, and what would meet it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{need}: {reason}: {fix}")]
pub struct PlanError {
    /// What is needed.
    pub need: &'static str,
    /// What is missing.
    pub reason: String,
    /// What to do.
    pub fix: String,
}

/// Decides how each need is met.
///
/// A feature that is [`Support::Unknown`] is taken to be there: loading says more than a probe can.
///
/// # Errors
/// All needs without any way to meet them, in the order of the path.
pub fn plan(config: &DatapathConfig, features: &KernelFeatures) -> Result<DatapathPlan, Vec<PlanError>> {
    let mut planner = Planner::default();

    planner.require(
        "privileges",
        &features.privileges,
        "run as root, or choose plain listeners without redirection",
    );
    planner.pin_root(&config.pin_root, &features.bpffs);
    let device_attachment = planner.device_attachment(config.device_attachment, features);
    planner.require(
        "proxy listeners",
        &features.sockmap,
        "use a kernel built with CONFIG_BPF_STREAM_PARSER or, from 5.15 on, CONFIG_NET and CONFIG_BPF_SYSCALL",
    );
    planner.require("local connections", &features.sk_lookup, "use Linux 5.9 or later");
    planner.require("events", &features.ring_buffer, "use Linux 5.8 or later");
    let socket_hooks = planner.socket_hooks(config, features);
    let host_routing = planner.host_routing(config, socket_hooks.as_ref());

    match (device_attachment, planner.errors) {
        (Some(device_attachment), errors) if errors.is_empty() => Ok(DatapathPlan {
            pin_root: config.pin_root.clone(),
            device_attachment,
            socket_hooks,
            event_sampling: config.event_sampling,
            host_routing,
            choices: planner.choices,
        }),
        (_, errors) => Err(errors),
    }
}

#[derive(Default)]
struct Planner {
    choices: Vec<Choice>,
    errors: Vec<PlanError>,
}

impl Planner {
    fn choose(&mut self, need: &'static str, chosen: impl Into<String>, why: impl Into<String>) {
        self.choices.push(Choice { need, chosen: chosen.into(), why: why.into() });
    }

    fn fail(&mut self, need: &'static str, reason: impl Into<String>, fix: impl Into<String>) {
        self.errors.push(PlanError { need, reason: reason.into(), fix: fix.into() });
    }

    fn require(&mut self, need: &'static str, support: &Support, fix: &str) {
        match support {
            Support::Present => self.choose(need, "yes", "present"),
            Support::Unknown { reason } => self.choose(need, "yes", format!("not known: {reason}")),
            Support::Absent { reason } => self.fail(need, reason, fix),
        }
    }

    fn pin_root(&mut self, pin_root: &Path, bpffs: &[PathBuf]) {
        let need = "pins";
        if let Some(mount) = bpffs.iter().find(|mount| pin_root.starts_with(mount)) {
            let why = format!("the BPF file system is mounted at {}", mount.display());
            self.choose(need, pin_root.display().to_string(), why);
            return;
        }
        // The usual place if the pin root is below it, else the folder above the pin root.
        let usual = Path::new("/sys/fs/bpf");
        let above = if pin_root.starts_with(usual) { usual } else { pin_root.parent().unwrap_or(pin_root) };
        let above = above.display();
        self.fail(
            need,
            format!("the BPF file system is not mounted at {above}"),
            format!("mount -t bpf bpf {above}"),
        );
    }

    fn device_attachment(
        &mut self,
        choice: DeviceAttachmentChoice,
        features: &KernelFeatures,
    ) -> Option<DeviceAttachment> {
        let need = "device programs";
        let chosen = match (choice, &features.tcx, &features.clsact) {
            (DeviceAttachmentChoice::Auto | DeviceAttachmentChoice::Tcx, Support::Present, _) => {
                self.choose(need, "tcx", "present; links are pinned and replaced atomically");
                DeviceAttachment::Tcx
            }
            (DeviceAttachmentChoice::Tcx, Support::Unknown { reason }, _) => {
                self.choose(need, "tcx", format!("asked for; not known: {reason}"));
                DeviceAttachment::Tcx
            }
            (DeviceAttachmentChoice::Tcx, Support::Absent { reason }, _) => {
                self.fail(need, reason, "set deviceAttachment to auto or clsact, or use Linux 6.6 or later");
                return None;
            }
            (DeviceAttachmentChoice::Clsact, _, Support::Absent { reason }) => {
                self.fail(
                    need,
                    reason,
                    "set deviceAttachment to auto, or load the kernel module sch_ingress",
                );
                return None;
            }
            (DeviceAttachmentChoice::Clsact, ..) => {
                self.choose(need, "clsact", "asked for");
                DeviceAttachment::Clsact
            }
            (DeviceAttachmentChoice::Auto, tcx, Support::Absent { reason }) => {
                let fix = "use Linux 6.6 or later, or load the kernel module sch_ingress";
                self.fail(need, format!("tcx is {tcx}; clsact is absent: {reason}"), fix);
                return None;
            }
            (DeviceAttachmentChoice::Auto, tcx, _) => {
                self.choose(need, "clsact", format!("tcx is {tcx}"));
                DeviceAttachment::Clsact
            }
        };
        Some(chosen)
    }

    /// Where pods' packets are balanced, what they are sent has to pass their devices.
    fn host_routing(&mut self, config: &DatapathConfig, hooks: Option<&SocketHooks>) -> bool {
        let need = "pods' packets";
        let has_pod_lb = hooks.is_none_or(|hooks| hooks.host_only);
        match (config.legacy_host_routing, has_pod_lb) {
            (true, _) => self.choose(need, "through the stack", "legacyHostRouting is true"),
            (false, true) => {
                self.choose(need, "through the stack", "pods' packets to Services are balanced there")
            }
            (false, false) => {
                self.choose(need, "past the stack", "to pods of this node; Linux 5.10 or later")
            }
        }
        !config.legacy_host_routing && !has_pod_lb
    }

    fn socket_hooks(&mut self, config: &DatapathConfig, features: &KernelFeatures) -> Option<SocketHooks> {
        let need = "socket load balancing";
        if !config.socket_lb {
            self.choose(
                need,
                "off",
                "socketLb is false; pods' packets are balanced at their devices, the node's own not at all",
            );
            return None;
        }
        if let Support::Absent { reason } = &features.sock_addr {
            self.fail(need, reason, "set socketLb to false, or use Linux 5.8 or later");
            return None;
        }
        let Some(mount) = features.cgroup2.first() else {
            self.fail(
                need,
                "cgroup v2 is not mounted",
                "mount -t cgroup2 none /sys/fs/cgroup/unified, or set socketLb to false",
            );
            return None;
        };
        let cgroup = config.cgroup.as_ref().unwrap_or(mount).clone();
        if !features.cgroup2.iter().any(|mount| cgroup.starts_with(mount)) {
            let reason = format!("{} is on no cgroup v2 file system", cgroup.display());
            self.fail(need, reason, format!("set cgroup to a folder below {}", mount.display()));
            return None;
        }
        let who = if config.socket_lb_host_only { "the node's own processes" } else { "processes and pods" };
        self.choose(need, cgroup.display().to_string(), format!("for {who} of this cgroup"));
        Some(SocketHooks { cgroup, host_only: config.socket_lb_host_only })
    }
}

#[cfg(test)]
mod tests;
