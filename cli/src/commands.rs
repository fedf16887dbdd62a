//! The commands, a file each: what is asked, and how the answer is shown.

pub(crate) mod bpf;
pub(crate) mod config;
pub(crate) mod connectivity;
pub(crate) mod describe;
pub(crate) mod endpoint;
pub(crate) mod events;
pub(crate) mod get;
pub(crate) mod proxy;
pub(crate) mod service;
pub(crate) mod status;
pub(crate) mod sysdump;
pub(crate) mod tables;
pub(crate) mod version;
pub(crate) mod xds;
