//! What a worker gives up before it reads the first byte of a stranger.
//!
//! Everything here holds for the calling thread and the threads it starts later, so it runs while
//! there is only one: capabilities, no_new_privs, core dumps, Landlock, seccomp, in this order (the
//! filter forbids the calls that the steps before it need).

mod seccomp;

use anyhow::{Context, bail};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr,
    RulesetStatus, Scope,
};
use rustix::process::DumpableBehavior;
use rustix::thread::CapabilitySet;
use serde::Serialize;

use crate::args::Sandbox;
use crate::capability;

/// Rights that Landlock knew up to this version are taken away where the kernel knows them. Not
/// higher: from version 9 on the list includes connecting to Unix sockets, which is how the xDS
/// server is reached.
const LANDLOCK_RIGHTS: ABI = ABI::V6;

/// What was given up, as `/server_info` shows it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SandboxReport {
    /// Always empty: a worker with a capability does not start.
    pub(crate) capabilities: Vec<String>,
    pub(crate) no_new_privs: bool,
    /// `enforced`, or `off` when asked for.
    pub(crate) seccomp: &'static str,
    /// `enforced`, `partly enforced`, `not supported by this kernel` or `off`.
    pub(crate) landlock: &'static str,
    /// The version of Landlock that kernel and program share.
    pub(crate) landlock_abi: Option<i32>,
}

/// Gives it all up.
///
/// # Errors
/// When a capability is left, or seccomp is not to be had: a worker that is not confined must not
/// serve without being told so (`--sandbox off`).
pub(crate) fn enter(sandbox: Sandbox) -> anyhow::Result<SandboxReport> {
    drop_capabilities()?;
    rustix::thread::set_no_new_privs(true).context("cannot set no_new_privs")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("cannot forbid core dumps")?;
    let (landlock, landlock_abi, seccomp) = match sandbox {
        Sandbox::Off => ("off", None, "off"),
        Sandbox::Strict => {
            let (landlock, abi) = restrict_by_landlock().context("Landlock refuses its rules")?;
            seccomp::install()
                .context("seccomp cannot be used; start with `--sandbox off` to do without it")?;
            (landlock, abi, "enforced")
        }
    };
    Ok(SandboxReport {
        capabilities: capability::effective_names()?,
        no_new_privs: rustix::thread::no_new_privs()?,
        seccomp,
        landlock,
        landlock_abi,
    })
}

fn drop_capabilities() -> anyhow::Result<()> {
    capability::keep_only(CapabilitySet::empty()).context("cannot give up capabilities")?;
    let left = capability::remaining()?;
    if !left.is_empty() {
        bail!("the worker has {} and must have no capability", capability::names(left).join(", "));
    }
    Ok(())
}

/// Opens no file from now on, for reading or writing: nothing is needed any more once the process
/// runs, since listeners, configuration and upstream sockets come through the starter.
fn restrict_by_landlock() -> Result<(&'static str, Option<i32>), landlock::RulesetError> {
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK_RIGHTS))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(LANDLOCK_RIGHTS))?
        .create()?
        .restrict_self()?;
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => Some(effective_abi as i32),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    };
    let words = match status.ruleset {
        RulesetStatus::FullyEnforced => "enforced",
        RulesetStatus::PartiallyEnforced => "partly enforced",
        RulesetStatus::NotEnforced => "not supported by this kernel",
    };
    Ok((words, abi))
}
