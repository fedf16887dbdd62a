//! From ADD to DEL: what is there, what is reached, what is left.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mesh_control_endpoint::{Endpoint, EndpointError, EndpointState, Endpoints, Stranger, Wanted};
use nix::sched::{CloneFlags, unshare};

/// A pod: a network namespace with a thread in it that does what it is told.
struct Pod {
    namespace: OwnedFd,
    tasks: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl Pod {
    fn new() -> Self {
        let (tasks, queue) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may make a namespace");
            tell.send(File::open("/proc/thread-self/ns/net").expect("it has a file"))
                .expect("somebody waits");
            queue.into_iter().for_each(|task| task());
        });
        Self { namespace: told.recv().expect("the pod's thread").into(), tasks }
    }

    /// Runs something inside.
    fn inside<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        self.tasks.send(Box::new(move || tell.send(task()).expect("somebody waits"))).expect("the pod lives");
        told.recv().expect("the task ends")
    }

    /// A netlink socket inside, as the plugin opens one.
    fn netlink(&self) -> OwnedFd {
        self.inside(|| {
            use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
                .expect("a socket")
        })
    }

    fn created(&self, endpoints: &Endpoints, name: &str, addresses: &[&str]) -> Endpoint {
        endpoints.create(wanted(name, addresses), self.namespace.as_fd(), self.netlink()).expect("it is made")
    }
}

fn wanted(container: &str, addresses: &[&str]) -> Wanted {
    Wanted {
        container_id: container.to_owned(),
        interface: "eth0".to_owned(),
        netns: format!("/run/netns/{container}"),
        pod: None,
        addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
        mtu: 1500,
        route_mtu: 1450,
        host_ports: Vec::new(),
    }
}

/// Runs a test on a thread that is a node of its own.
fn on_a_node(test: impl FnOnce(&Path) + Send) {
    let folder = tempfile::tempdir().expect("a folder");
    thread::scope(|scope| {
        scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may make a namespace");
            for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{switch}"), "1").expect("the node forwards");
            }
            test(&folder.path().join("endpoints"));
        });
    });
}

/// What the kernel says of devices in this thread's namespace.
fn devices() -> String {
    std::fs::read_to_string("/proc/thread-self/net/dev").expect("the kernel tells")
}

/// A pod asks another one something, and hears it back with the asker's address as the other saw it.
fn talk(from: &Pod, to: &Pod, address: IpAddr) -> IpAddr {
    let listener =
        to.inside(move || TcpListener::bind(SocketAddr::new(address, 0)).expect("the address is there"));
    let at = listener.local_addr().expect("it is bound");
    let echo = thread::spawn(move || {
        let (mut stream, peer) = listener.accept().expect("a client");
        let mut word = [0; 4];
        stream.read_exact(&mut word).expect("its word");
        stream.write_all(&word).expect("it listens");
        peer.ip()
    });
    from.inside(move || {
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5)).expect("the way is there");
        stream.write_all(b"ping").expect("it is open");
        let mut word = [0; 4];
        stream.read_exact(&mut word).expect("the answer");
        assert_eq!(&word, b"ping");
    });
    echo.join().expect("the other pod is content")
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_pods_of_one_node_reach_each_other_by_both_families() {
    on_a_node(|folder| {
        let (endpoints, _) = Endpoints::restore(folder.to_owned()).expect("an empty folder");
        let (a, b) = (Pod::new(), Pod::new());
        let first = a.created(&endpoints, "a", &["10.9.0.1", "fd00:9::1"]);
        let second = b.created(&endpoints, "b", &["10.9.0.2", "fd00:9::2"]);
        assert_eq!((first.id, second.id), (1, 2));
        for (family, address) in second.addresses.iter().enumerate() {
            assert_eq!(talk(&a, &b, *address), first.addresses[family]);
        }
        let differences = endpoints.differences(&first, a.netlink()).expect("they can be looked at");
        assert_eq!(differences, Vec::<String>::new());
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_an_endpoint_that_cannot_be_made_leaves_nothing() {
    on_a_node(|folder| {
        let (endpoints, _) = Endpoints::restore(folder.to_owned()).expect("an empty folder");
        let pod = Pod::new();
        pod.created(&endpoints, "a", &["10.9.0.1"]);
        let before = devices();
        // The namespace has an eth0 already.
        let error = endpoints
            .create(wanted("other", &["10.9.0.2"]), pod.namespace.as_fd(), pod.netlink())
            .expect_err("the name is taken");
        assert!(
            matches!(error, EndpointError::Refused { .. }) && error.to_string().contains("eth0"),
            "{error}"
        );
        // No interface name may be that long: refused before a device is there.
        let mut long = wanted("long", &["10.9.0.3"]);
        long.interface = "x".repeat(40);
        endpoints.create(long, pod.namespace.as_fd(), pod.netlink()).expect_err("no such name");
        // Nor is a file a namespace.
        let file: OwnedFd = tempfile::tempfile().expect("a file").into();
        endpoints.create(wanted("file", &[]), file.as_fd(), pod.netlink()).expect_err("no namespace");
        endpoints.create(wanted("socket", &[]), Pod::new().namespace.as_fd(), file).expect_err("no socket");
        assert_eq!((devices().lines().count(), endpoints.list().len()), (before.lines().count(), 1));
        assert_eq!(std::fs::read_dir(folder).expect("the records").count(), 1);
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_what_lives_is_known_after_a_restart_and_the_rest_is_taken_away() {
    on_a_node(|folder| {
        let (endpoints, _) = Endpoints::restore(folder.to_owned()).expect("an empty folder");
        let (ready, unfinished, gone) = (Pod::new(), Pod::new(), Pod::new());
        let kept = endpoints.finish(&ready.created(&endpoints, "ready", &["10.9.0.1"])).expect("it is noted");
        assert_eq!(kept.state, EndpointState::Ready);
        unfinished.created(&endpoints, "unfinished", &["10.9.0.2"]);
        endpoints.finish(&gone.created(&endpoints, "gone", &["10.9.0.3"])).expect("it is noted");
        std::fs::write(folder.join("9.json"), "{").expect("half a record");
        // Its namespace goes with its thread, and the devices some time after that.
        drop(gone);
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while devices().matches("mrp").count() > 2 {
            assert!(std::time::Instant::now() < until, "the pod's device stays: {}", devices());
            thread::yield_now();
        }
        let (endpoints, restored) = Endpoints::restore(folder.to_owned()).expect("the records are there");
        assert_eq!(restored.kept, vec![kept.clone()]);
        let mut dropped: Vec<String> = restored.dropped.iter().map(|old| old.container_id.clone()).collect();
        dropped.sort();
        assert_eq!(dropped, ["gone", "unfinished"]);
        assert_eq!(restored.unreadable.len(), 1);
        assert_eq!(devices().matches("mrp").count(), 1);
        assert_eq!(endpoints.list(), vec![kept]);
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_pod_whose_record_cannot_be_read_is_found_by_its_routes() {
    on_a_node(|folder| {
        let (endpoints, _) = Endpoints::restore(folder.to_owned()).expect("an empty folder");
        let (known, lost) = (Pod::new(), Pod::new());
        let kept = endpoints.finish(&known.created(&endpoints, "known", &["10.9.0.1"])).expect("it is noted");
        let lost_one = lost.created(&endpoints, "lost", &["10.9.0.2", "fd00:9::2"]);
        endpoints.finish(&lost_one).expect("it is noted");
        std::fs::write(folder.join(format!("{}.json", lost_one.id)), "{").expect("half a record");
        let (endpoints, restored) = Endpoints::restore(folder.to_owned()).expect("the records are there");
        assert_eq!((restored.kept, restored.unreadable.len()), (vec![kept], 1));
        let found = Stranger { device: lost_one.device.clone(), addresses: lost_one.addresses.clone() };
        assert_eq!(restored.strangers, [found]);
        assert_eq!(talk(&known, &lost, lost_one.addresses[0]), "10.9.0.1".parse::<IpAddr>().expect("one"));
        let removed = endpoints.remove_stranger("lost", "eth0").expect("it can be taken away");
        assert_eq!(removed, Some(lost_one.device.name));
        assert_eq!(endpoints.remove_stranger("lost", "eth0").expect("it is no error"), None);
        assert_eq!(devices().matches("mrp").count(), 1);
        let (_, restored) = Endpoints::restore(folder.to_owned()).expect("the records are there");
        assert_eq!(restored.strangers, []);
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_an_endpoint_goes_whole_and_going_twice_is_no_error() {
    on_a_node(|folder| {
        let (endpoints, _) = Endpoints::restore(folder.to_owned()).expect("an empty folder");
        let pod = Pod::new();
        let made = pod.created(&endpoints, "a", &["10.9.0.1"]);
        assert!(endpoints.remove("a", "eth0").expect("it can go").is_some());
        assert!(endpoints.remove("a", "eth0").expect("nothing is left to do").is_none());
        assert!(!devices().contains("mrp"), "{}", devices());
        let differences = endpoints.differences(&made, pod.netlink()).expect("they can be looked at");
        assert_eq!(differences.len(), 2, "{differences:?}");
    });
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_whoever_talks_to_a_pod_that_is_gone_hears_so_at_once() {
    on_a_node(|folder| {
        let (endpoints, _) = Endpoints::restore(folder.to_owned()).expect("an empty folder");
        let endpoints = endpoints.with_unreachable_routes(true);
        // Errors come from an address of the node's; its devices have none of theirs for the first two seconds.
        for arguments in ["link set lo up", "-6 address add fd00:99::1/128 dev lo"] {
            let done = std::process::Command::new("ip").args(arguments.split(' ')).status();
            assert!(done.expect("iproute2 is installed").success());
        }
        let asker = Pod::new();
        asker.created(&endpoints, "asker", &["10.9.0.1", "fd00:9::1"]);
        for round in 0..2 {
            let pod = Pod::new();
            let made = pod.created(&endpoints, "a", &["10.9.0.2", "fd00:9::2"]);
            for address in &made.addresses {
                talk(&asker, &pod, *address);
            }
            endpoints.remove("a", "eth0").expect("it can be taken away").expect("it was there");
            for address in made.addresses {
                let at = SocketAddr::new(address, 80);
                let began = std::time::Instant::now();
                let connect = move || TcpStream::connect_timeout(&at, Duration::from_secs(5));
                for error in [connect().expect_err("it is gone"), asker.inside(connect).expect_err("gone")] {
                    // To pods Linux says `no route` (RFC 4443, code 0) for IPv6 whatever kind of route refuses.
                    let expected =
                        [std::io::ErrorKind::HostUnreachable, std::io::ErrorKind::NetworkUnreachable];
                    assert!(expected.contains(&error.kind()), "{address}, round {round}: {error}");
                }
                // A second at most for a SYN whose answer the node had no address for yet.
                assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
            }
        }
    });
}
