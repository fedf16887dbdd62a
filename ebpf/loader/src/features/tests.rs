use std::path::Path;

use super::{FeatureFileError, KernelFeatures, Support};
use crate::mounts::Mounts;

#[test]
fn a_profile_survives_being_written_and_read() {
    let features = KernelFeatures::probe();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kernel.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&features).unwrap()).unwrap();
    assert_eq!(KernelFeatures::from_file(&path).unwrap(), features);
}

#[test]
fn a_file_that_is_no_profile_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kernel.json");
    std::fs::write(&path, "{}").unwrap();
    let error = KernelFeatures::from_file(&path).unwrap_err();
    assert!(matches!(error, FeatureFileError::Parse { .. }));
    assert!(error.to_string().contains("kernel.json"));
    let missing = KernelFeatures::from_file(Path::new("/nonexistent/kernel.json")).unwrap_err();
    assert!(matches!(missing, FeatureFileError::Read { .. }));
}

#[test]
fn the_printed_form_says_why_something_is_missing() {
    let mut features = KernelFeatures::probe();
    features.tcx = Support::absent("too old");
    features.bpffs.clear();
    let text = features.to_string();
    assert!(text.contains("tcx          absent: too old"), "{text}");
    assert!(text.contains("bpffs        not mounted"), "{text}");
}

#[test]
fn mounts_are_found_by_type_with_blanks_in_their_paths() {
    let mounts = Mounts::parse(
        "proc /proc proc rw 0 0\n\
         bpf /sys/fs/bpf bpf rw,mode=700 0 0\n\
         cgroup2 /mnt/my\\040groups cgroup2 rw 0 0\n\
         broken\n",
    );
    assert_eq!(mounts.bpffs, [Path::new("/sys/fs/bpf")]);
    assert_eq!(mounts.cgroup2, [Path::new("/mnt/my groups")]);
}
