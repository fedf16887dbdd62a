use std::path::{Path, PathBuf};

use super::{DatapathConfig, DeviceAttachment, DeviceAttachmentChoice, plan};
use crate::features::{KernelFeatures, Support};

fn modern() -> KernelFeatures {
    KernelFeatures {
        release: "6.18.0".to_owned(),
        privileges: Support::Present,
        tcx: Support::Present,
        clsact: Support::Unknown { reason: "may be a module".to_owned() },
        sk_lookup: Support::Present,
        sockmap: Support::Present,
        sock_addr: Support::Present,
        ring_buffer: Support::Present,
        btf: Support::Present,
        bpffs: vec![PathBuf::from("/sys/fs/bpf")],
        cgroup2: vec![PathBuf::from("/sys/fs/cgroup/unified")],
    }
}

fn absent(reason: &str) -> Support {
    Support::Absent { reason: reason.to_owned() }
}

#[test]
fn a_modern_kernel_gets_tcx_and_socket_hooks_at_the_cgroup_root() {
    let plan = plan(&DatapathConfig::default(), &modern()).unwrap();
    assert_eq!(plan.device_attachment, DeviceAttachment::Tcx);
    assert_eq!(plan.socket_hooks.as_ref().unwrap().cgroup, Path::new("/sys/fs/cgroup/unified"));
    let text = plan.to_string();
    assert!(text.contains("device programs      tcx"), "{text}");
}

#[test]
fn a_kernel_before_tcx_gets_clsact_and_the_plan_says_why() {
    let features = KernelFeatures { tcx: absent("came with 6.6"), ..modern() };
    let plan = plan(&DatapathConfig::default(), &features).unwrap();
    assert_eq!(plan.device_attachment, DeviceAttachment::Clsact);
    assert!(plan.to_string().contains("clsact (tcx is absent: came with 6.6)"), "{plan}");
}

#[test]
fn tcx_that_was_asked_for_and_is_missing_is_an_error() {
    let features = KernelFeatures { tcx: absent("came with 6.6"), ..modern() };
    let config = DatapathConfig { device_attachment: DeviceAttachmentChoice::Tcx, ..Default::default() };
    let errors = plan(&config, &features).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].need, "device programs");
}

#[test]
fn everything_that_is_missing_is_listed_at_once_with_its_fix() {
    let features = KernelFeatures {
        privileges: absent("not root"),
        sk_lookup: absent("too old"),
        bpffs: Vec::new(),
        cgroup2: Vec::new(),
        ..modern()
    };
    let errors = plan(&DatapathConfig::default(), &features).unwrap_err();
    let needs: Vec<_> = errors.iter().map(|error| error.need).collect();
    assert_eq!(needs, ["privileges", "pins", "local connections", "socket load balancing"]);
    assert_eq!(
        errors[1].to_string(),
        "pins: the BPF file system is not mounted at /sys/fs/bpf: mount -t bpf bpf /sys/fs/bpf"
    );
}

#[test]
fn without_socket_load_balancing_no_cgroup_is_needed() {
    let features = KernelFeatures { cgroup2: Vec::new(), sock_addr: absent("too old"), ..modern() };
    let config = DatapathConfig { socket_lb: false, ..Default::default() };
    assert_eq!(plan(&config, &features).unwrap().socket_hooks, None);
}

#[test]
fn a_cgroup_outside_of_cgroup2_is_refused_by_name() {
    let config = DatapathConfig { cgroup: Some(PathBuf::from("/tmp/group")), ..Default::default() };
    let errors = plan(&config, &modern()).unwrap_err();
    assert!(errors[0].reason.contains("/tmp/group"), "{}", errors[0]);
}

#[test]
fn what_could_not_be_probed_is_tried() {
    let unknown = Support::Unknown { reason: "EPERM".to_owned() };
    let features = KernelFeatures { sk_lookup: unknown.clone(), sockmap: unknown, ..modern() };
    let plan = plan(&DatapathConfig::default(), &features).unwrap();
    assert!(plan.to_string().contains("not known: EPERM"), "{plan}");
}
