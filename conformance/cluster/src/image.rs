//! Images that every node has: each a static program.

use std::fs;
use std::path::{Path, PathBuf};

use mesh_oci::Image;

use crate::programs::Programs;

/// What holds a pod's namespaces.
pub const PAUSE: &str = "millrace.test/pause:1";
/// Kubernetes' own test program: servers and clients of many kinds (`agnhost --help`).
pub const AGNHOST: &str = "millrace.test/agnhost:1";
/// The echo server of the Gateway API's conformance suite.
pub const ECHO: &str = "millrace.test/echo-basic:1";

/// CoreDNS.
pub const DNS: &str = "millrace.test/coredns:1";

/// A program, its arguments, the reference.
const OURS: &[(&str, &[&str], &str)] =
    &[("pause", &[], PAUSE), ("agnhost", &["pause"], AGNHOST), ("echo-basic", &[], ECHO)];

/// Files of the images, written beside the programs where they are missing or older.
pub(crate) fn ours(programs: &Programs) -> anyhow::Result<Vec<PathBuf>> {
    OURS.iter().map(|(name, arguments, reference)| made(programs, name, arguments, reference)).collect()
}

/// The file of CoreDNS' image.
pub(crate) fn dns(programs: &Programs) -> anyhow::Result<PathBuf> {
    made(programs, "coredns", &[], DNS)
}

fn made(programs: &Programs, name: &str, arguments: &[&str], reference: &str) -> anyhow::Result<PathBuf> {
    let program = programs.find(name)?;
    let file = program.with_extension("oci.tar");
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    if changed(&file) < changed(&program) {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Image::of_programs(reference, &[program], arguments)?.write(&file)?;
    }
    Ok(file)
}
