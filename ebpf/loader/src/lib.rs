//! Brings the kernel programs into the kernel, and keeps them there while agents come and go.
//!
//! In: what is wanted ([`DatapathConfig`]) and what the kernel can do ([`KernelFeatures`]). Out: a printable
//! [`DatapathPlan`] or everything that is missing at once ([`PlanError`]); from the plan a [`Datapath`] with
//! all maps, programs and links pinned below one folder, so that it works on without this process.
//!
//! Order: [`KernelFeatures::probe`], [`plan`], [`Datapath::load`] (or [`Datapath::adopt`]),
//! [`Datapath::attach`] for each device, [`Datapath::set_listeners`] when the proxy is there. Start reading
//! with `plan.rs`, then `datapath.rs`. Spawns nothing; all calls are short system calls on the caller's
//! thread.

mod constants;
mod datapath;
mod device;
mod error;
mod features;
mod filters;
mod links;
mod mounts;
mod pins;
mod plan;
mod programs;
mod sys;

pub use constants::Constants;
pub use datapath::{Datapath, LoadConfig, Removed, cleanup};
pub use device::{Device, DeviceKind};
pub use error::LoadError;
pub use features::{FeatureFileError, KernelFeatures, Support};
pub use mounts::ensure_bpffs;
pub use plan::{
    Choice, DatapathConfig, DatapathPlan, DeviceAttachment, DeviceAttachmentChoice, PlanError, SocketHooks,
    plan,
};
pub use sys::netns_cookie;
