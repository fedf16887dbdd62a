//! The proxy of this repository, and the agent for what both use together.

use std::path::Path;
use std::process::Command;

use mesh_xds_proto::route::RouteConfiguration;

use super::{ControlPlane, Running, Setting, folder, free, spawn};
use crate::resources::Fixed;

pub(super) fn start(
    name: &str,
    binary: &Path,
    setting: Setting,
    table: &RouteConfiguration,
) -> anyhow::Result<Running> {
    let folder = folder()?;
    let front = free()?;
    let run_dir = folder.path().join("run");
    let fixed = Fixed::new(front, setting.backend, setting.log)?;
    let control = ControlPlane::start(&run_dir.join("xds.sock"), fixed, table)?;
    let mut command = Command::new(binary);
    command.arg("starter").arg("--run-dir").arg(&run_dir).args(["--worker-threads", "1", "--log", "warn"]);
    let process = spawn(&mut command, &folder)?;
    Ok(Running { name: name.to_owned(), http1: front, http2: front, process, folder, control: Some(control) })
}
