//! Agents that come and go.

use std::net::TcpStream;
use std::path::Path;

use aya::programs::{SchedClassifier, TcAttachType};
use mesh_ebpf_loader::{Datapath, Device, DeviceKind, LoadError, Removed, cleanup};
use mesh_ebpf_maps::{LoadBalancerMaps, MapError, PinnedMaps, layouts, names};

use crate::harness::{
    IMPATIENCE, Node, VIP4, accept, chain, connect, ip, load_config, object, on_node, on_tcx_node,
};

const DEVICE: &str = "mrt-client";

fn programs_on_device() -> Vec<u32> {
    let (_, programs) = SchedClassifier::query_tcx(DEVICE, TcAttachType::Ingress).unwrap();
    programs.iter().map(|program| program.id()).collect()
}

fn pins(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_second_load_keeps_maps_and_replaces_programs_in_place() {
    on_tcx_node("kernel_a_second_load_keeps_maps_and_replaces_programs_in_place", |node| {
        node.load().maps();
        node.proxy_service(VIP4, 80);
        let client = node.client();
        node.datapath().attach(&Device::ethernet(DEVICE)).unwrap();
        let proxy = node.proxy(1);
        let before = programs_on_device();
        let links = pins(&node.pin_root().join("links"));

        node.load();
        let after = programs_on_device();
        assert_eq!((before.len(), after.len()), (1, 1));
        assert_ne!(before, after, "the device has the new program");
        assert_eq!(pins(&node.pin_root().join("links")), links);
        assert_eq!(node.datapath().maps().services().entries().unwrap().len(), 1);
        assert_eq!(node.datapath().maps().listeners().unwrap().len(), 2);
        client.run(|| connect((VIP4, 80).into())).unwrap();
        accept(&proxy[0].v4).unwrap();
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_redirection_goes_on_without_an_agent_and_is_adopted_by_the_next() {
    on_tcx_node("kernel_redirection_goes_on_without_an_agent_and_is_adopted_by_the_next", |node| {
        assert!(Datapath::adopt(&node.plan()).unwrap().is_none(), "nothing there yet");
        node.load();
        node.proxy_service(VIP4, 80);
        let client = node.client();
        node.datapath().attach(&Device::ethernet(DEVICE)).unwrap();
        let proxy = node.proxy(1);

        node.datapath = None;
        client.run(|| connect((VIP4, 80).into())).unwrap();
        accept(&proxy[0].v4).unwrap();

        let before = programs_on_device();
        let adopted = Datapath::adopt(&node.plan()).unwrap().expect("all of it is pinned");
        assert_eq!(adopted.attached_devices().unwrap().len(), 1);
        node.datapath = Some(adopted);
        node.datapath().attach(&Device::ethernet(DEVICE)).unwrap();
        assert_eq!(programs_on_device(), before, "the pinned program is still the one");
        assert!(node.datapath().detach(&Device::ethernet(DEVICE)).unwrap());
        client.run(|| TcpStream::connect_timeout(&(VIP4, 80).into(), IMPATIENCE)).unwrap_err();
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_clsact_serves_where_tcx_is_not_wanted() {
    on_node("kernel_clsact_serves_where_tcx_is_not_wanted", |node| {
        let plan = node.clsact_plan();
        node.load_plan(&plan);
        node.proxy_service(VIP4, 80);
        let client = node.client();
        let device = Device::ethernet(DEVICE);
        let proxy = node.proxy(1);
        for round in ["attached", "attached again", "loaded again"] {
            if round == "loaded again" {
                node.load_plan(&plan);
            } else {
                node.datapath().attach(&device).unwrap();
            }
            let counted = node.counted(|_| drop(client.run(dial).expect(round)));
            assert_eq!(counted["redirected_tc_new"], 1, "{round}: {counted:?}");
            accept(&proxy[0].v4).unwrap();
        }
        assert!(node.datapath().detach(&device).unwrap());
        client.run(dial).expect_err("detached");

        node.datapath().attach(&device).unwrap();
        drop(node.datapath.take());
        assert_eq!(cleanup(&node.pin_root()).unwrap().links, 11);
        client.run(dial).expect_err("cleaned up");
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_device_changes_between_clsact_and_tcx_with_the_plan() {
    on_tcx_node("kernel_a_device_changes_between_clsact_and_tcx_with_the_plan", |node| {
        let clsact = node.clsact_plan();
        node.load_plan(&clsact);
        node.proxy_service(VIP4, 80);
        let client = node.client();
        let device = Device::ethernet(DEVICE);
        let _proxy = node.proxy(1);
        for tcx in [false, true, false] {
            let plan = if tcx { node.plan() } else { node.clsact_plan() };
            node.load_plan(&plan);
            node.datapath().attach(&device).unwrap();
            assert_eq!(programs_on_device().len(), usize::from(tcx));
            assert_eq!(node.datapath().attached_devices().unwrap().len(), 1);
            let counted = node.counted(|_| drop(client.run(dial).unwrap()));
            assert_eq!(counted["redirected_tc_new"], 1, "one program, not two: {counted:?}");
        }
    });
}

fn dial() -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&(VIP4, 80).into(), IMPATIENCE)
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_device_that_went_is_forgotten_and_its_successor_attached() {
    on_tcx_node("kernel_a_device_that_went_is_forgotten_and_its_successor_attached", |node| {
        node.load();
        let first = node.client();
        let device = Device::ethernet(DEVICE);
        node.datapath().attach(&device).unwrap();
        ip(&format!("link del {DEVICE}"));
        drop(first);
        assert!(matches!(node.datapath().attach(&device), Err(LoadError::NoDevice { .. })));
        assert_eq!(node.datapath().forget_missing_devices().unwrap(), 1);
        assert!(node.datapath().attached_devices().unwrap().is_empty());
        let _second = node.client();
        node.datapath().attach(&device).unwrap();
        assert_eq!(programs_on_device().len(), 1);
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_device_without_ethernet_is_attached_by_its_kind() {
    on_tcx_node("kernel_a_device_without_ethernet_is_attached_by_its_kind", |node| {
        node.load();
        ip("tuntap add mrt-tun mode tun");
        let device = Device { name: "mrt-tun".to_owned(), kind: DeviceKind::Ip };
        node.datapath().attach(&device).unwrap();
        let (_, programs) = SchedClassifier::query_tcx("mrt-tun", TcAttachType::Ingress).unwrap();
        let name = programs[0].name_as_str().unwrap();
        assert!("mr_tc_ingress_l3".starts_with(name) && name.len() > "mr_tc_ingress".len(), "{name}");
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_cleanup_takes_everything_out_and_nothing_else() {
    on_tcx_node("kernel_cleanup_takes_everything_out_and_nothing_else", |node| {
        node.load();
        let client = node.client();
        node.datapath().attach(&Device::ethernet(DEVICE)).unwrap();
        let other = node.pin_root().parent().unwrap().join("somebody_else");
        std::fs::create_dir(&other).unwrap();
        drop(node.datapath.take());

        let removed = cleanup(&node.pin_root()).unwrap();
        assert_eq!(removed, Removed { links: 11, programs: 9, maps: layouts().len() });
        assert!(!node.pin_root().exists());
        assert!(other.exists());
        assert!(programs_on_device().is_empty());
        assert_eq!(cleanup(&node.pin_root()).unwrap(), Removed::default(), "twice is no error");
        drop(client);
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_map_of_another_layout_is_refused_by_name_before_anything_changes() {
    on_node("kernel_a_map_of_another_layout_is_refused_by_name_before_anything_changes", |node| {
        node.load();
        // Another of our maps in its place: same name, other sizes.
        let path = node.pin_root().join(names::SERVICES);
        std::fs::remove_file(&path).unwrap();
        let other = aya::maps::MapData::from_pin(node.pin_root().join(names::BACKENDS)).unwrap();
        other.pin(&path).unwrap();

        let Err(error) = Datapath::load(&node.plan(), &load_config()) else {
            panic!("loaded on a map of another layout");
        };
        let text = chain(&error);
        assert!(matches!(error, LoadError::Maps(MapError::Layout { map: names::SERVICES, .. })), "{text}");
        assert!(text.contains("key size 4, this version needs 20"), "{text}");
        assert!(PinnedMaps::open(&node.pin_root()).is_err());
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_missing_object_file_is_named_with_what_builds_it() {
    on_node("kernel_a_missing_object_file_is_named_with_what_builds_it", |node: &mut Node| {
        let mut config = load_config();
        config.object = object().with_extension("missing");
        let Err(error) = Datapath::load(&node.plan(), &config) else {
            panic!("loaded a file that is not there");
        };
        let text = chain(&error);
        assert!(text.contains("millrace-programs.missing") || text.contains("millrace.missing"), "{text}");
        assert!(text.contains("cargo xtask bpf"), "{text}");
    });
}
