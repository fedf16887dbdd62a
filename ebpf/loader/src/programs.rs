//! The programs by name.

use crate::device::DeviceKind;

pub(crate) const SK_LOOKUP: &str = "mr_sk_lookup";
pub(crate) const TC_EMPTY: &str = "mr_tc_empty";

/// Programs at a device's ingress and egress.
pub(crate) const TC: &[&str] = &[
    "mr_tc_ingress",
    "mr_tc_ingress_l3",
    "mr_tc_pod",
    "mr_tc_to_pod",
    "mr_tc_egress",
    "mr_tc_egress_l3",
    "mr_tc_untunnel",
    "mr_tc_tunnel",
];

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

/// Which packets of a device a program sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    /// Those that come in.
    Ingress,
    /// Those that go out.
    Egress,
}

/// Where programs go on a device of a kind. What pods are sent was seen where it came in, and meets one only where
/// their packets are balanced.
pub(crate) const fn directions(kind: DeviceKind, pod_lb: bool) -> &'static [Direction] {
    match kind {
        DeviceKind::Pod if !pod_lb => &[Direction::Ingress],
        DeviceKind::Ethernet | DeviceKind::Ip | DeviceKind::Pod | DeviceKind::Tunnel => {
            &[Direction::Ingress, Direction::Egress]
        }
    }
}

/// The program for a place on a device.
pub(crate) const fn for_device(kind: DeviceKind, direction: Direction) -> &'static str {
    match (kind, direction) {
        (DeviceKind::Ethernet, Direction::Ingress) => "mr_tc_ingress",
        (DeviceKind::Ethernet, Direction::Egress) => "mr_tc_egress",
        (DeviceKind::Ip, Direction::Ingress) => "mr_tc_ingress_l3",
        (DeviceKind::Ip, Direction::Egress) => "mr_tc_egress_l3",
        (DeviceKind::Pod, Direction::Ingress) => "mr_tc_pod",
        (DeviceKind::Pod, Direction::Egress) => "mr_tc_to_pod",
        (DeviceKind::Tunnel, Direction::Ingress) => "mr_tc_untunnel",
        (DeviceKind::Tunnel, Direction::Egress) => "mr_tc_tunnel",
    }
}
