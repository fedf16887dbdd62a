//! The programs by name.

use crate::device::DeviceKind;

pub(crate) const SK_LOOKUP: &str = "mr_sk_lookup";
pub(crate) const TC_EMPTY: &str = "mr_tc_empty";

/// Programs at a device's ingress.
pub(crate) const TC: &[&str] = &["mr_tc_ingress", "mr_tc_ingress_l3", "mr_tc_pod"];

/// Programs at the socket calls of a cgroup.
pub(crate) const SOCK_ADDR: &[&str] = &[
    "mr_connect4",
    "mr_connect6",
    "mr_sendmsg4",
    "mr_sendmsg6",
    "mr_recvmsg4",
    "mr_recvmsg6",
    "mr_getpeername4",
    "mr_getpeername6",
];

pub(crate) const fn for_device(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Ethernet => "mr_tc_ingress",
        DeviceKind::Ip => "mr_tc_ingress_l3",
        DeviceKind::Pod => "mr_tc_pod",
    }
}
