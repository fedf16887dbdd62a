//! The minimal pingora proxy, which is a program of ours on somebody else's library.

use std::path::Path;
use std::process::Command;

use super::{Running, Setting, folder, free, spawn};

pub(super) fn start(binary: &Path, setting: Setting) -> anyhow::Result<Running> {
    let folder = folder()?;
    let front = free()?;
    let mut command = Command::new(binary);
    command.arg(front.to_string()).arg(setting.backend.to_string());
    let process = spawn(&mut command, &folder)?;
    Ok(Running { name: "pingora".to_owned(), http1: front, http2: front, process, folder, control: None })
}
