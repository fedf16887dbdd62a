//! haproxy.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Running, Setting, filled, folder, free, spawn};

pub(super) fn start(binary: &Path, setting: Setting) -> anyhow::Result<Running> {
    let folder = folder()?;
    let (http1, http2) = (free()?, free()?);
    let (log_global, log) = match setting.log {
        true => ("log stdout format raw local0", "log global\n    option httplog"),
        false => ("", ""),
    };
    let text = filled(
        include_str!("../../templates/haproxy.cfg"),
        &[
            ("LOG_GLOBAL", log_global),
            ("LOG", log),
            ("BACKEND", &setting.backend.to_string()),
            ("HTTP1", &http1.to_string()),
            ("HTTP2", &http2.to_string()),
        ],
    );
    let path = folder.path().join("haproxy.cfg");
    fs::write(&path, text)?;
    let mut command = Command::new(binary);
    command.arg("-db").arg("-f").arg(&path);
    let process = spawn(&mut command, &folder)?;
    Ok(Running { name: "haproxy".to_owned(), http1, http2, process, folder, control: None })
}
