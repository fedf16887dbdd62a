use super::{AttachmentPin, DevicePin};
use crate::device::DeviceKind;
use crate::programs::directions;

#[test]
fn a_device_pin_is_found_again_by_its_name() {
    for attachment in [AttachmentPin::Link, AttachmentPin::Filter] {
        for kind in [DeviceKind::Ethernet, DeviceKind::Ip, DeviceKind::Pod, DeviceKind::Tunnel] {
            for direction in directions(kind, true) {
                let pin = DevicePin { attachment, kind, direction: *direction, index: 42 };
                assert_eq!(DevicePin::parse(&pin.to_string()), Some(pin));
                assert!(!pin.to_string().contains('.'), "the BPF file system takes no dots");
            }
        }
    }
}

#[test]
fn other_names_are_no_device_pins() {
    for name in ["mr_sk_lookup", "tcx_l2_x", "tcx_l2_1_new", "tcx_l4_1", "tcx_podin_1", ""] {
        assert_eq!(DevicePin::parse(name), None, "{name}");
    }
}
