//! nginx, the control peer.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Running, Setting, filled, folder, free, spawn};

pub(super) fn start(binary: &Path, setting: Setting) -> anyhow::Result<Running> {
    let folder = folder()?;
    let (http1, http2) = (free()?, free()?);
    let log = match setting.log {
        true => format!("access_log {}/nginx.log combined buffer=64k flush=1s;", folder.path().display()),
        false => "access_log off;".to_owned(),
    };
    let text = filled(
        include_str!("../../templates/nginx.conf"),
        &[
            ("FOLDER", &folder.path().display().to_string()),
            ("LOG", &log),
            ("BACKEND", &setting.backend.to_string()),
            ("HTTP1", &http1.to_string()),
            ("HTTP2", &http2.to_string()),
        ],
    );
    let path = folder.path().join("nginx.conf");
    fs::write(&path, text)?;
    let mut command = Command::new(binary);
    command.arg("-c").arg(&path).arg("-p").arg(folder.path());
    let process = spawn(&mut command, &folder)?;
    Ok(Running { name: "nginx".to_owned(), http1, http2, process, folder, control: None })
}
