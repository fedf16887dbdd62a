//! A node of its own for each test.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mesh_ebpf_abi::{BackendValue, Be16, Protocol, ServiceFlags, ServiceKey, ServiceValue, SlotKey};
use mesh_ebpf_loader::{
    Constants, Datapath, DatapathConfig, DatapathPlan, DeviceAttachmentChoice, KernelFeatures, LoadConfig,
    cleanup, plan,
};
use mesh_ebpf_maps::{ListenerPair, LoadBalancerMaps};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, gettid};
use socket2::{Domain, Socket, Type};

/// How long something that must happen may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for something that must not happen: longer than a SYN and its first repetition.
pub(crate) const IMPATIENCE: Duration = Duration::from_millis(1500);

pub(crate) const VIP4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));
pub(crate) const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 0x10));
pub(crate) const CLIENT4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
pub(crate) const CLIENT6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7));
pub(crate) const BACKEND4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 8));
pub(crate) const BACKEND6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 8));

/// Where the programs are.
pub(crate) fn object() -> PathBuf {
    std::env::var_os("MILLRACE_BPF_OBJECT").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bpf/millrace.o"),
        PathBuf::from,
    )
}

/// Runs a test on a node of its own, or says loudly why it cannot.
pub(crate) fn on_node(name: &'static str, test: impl FnOnce(&mut Node) + Send + 'static) {
    let skip = |reason: String| eprintln!("SKIPPED: {name}: {reason}");
    if !Uid::effective().is_root() {
        return skip("needs root".to_owned());
    }
    if !object().exists() {
        return skip(format!("{} does not exist; build it with `cargo xtask bpf`", object().display()));
    }
    let node = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let mut node = Node::new();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&mut node)));
        node.tear_down();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    if let Err(panic) = node.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

type OnNode = Box<dyn FnOnce(&mut Node) + Send>;

/// A second node, on a thread of its own.
pub(crate) struct OtherNode {
    pub(crate) thread: i32,
    jobs: mpsc::Sender<OnNode>,
}

impl OtherNode {
    /// Runs something there, waits for it and gives its answer.
    pub(crate) fn run<T: Send + 'static>(&self, action: impl FnOnce(&mut Node) -> T + Send + 'static) -> T {
        let (done, answer) = mpsc::channel();
        let job = move |node: &mut Node| {
            let _ = done.send(action(node));
        };
        self.jobs.send(Box::new(job)).expect("the other node lives");
        answer.recv().expect("what ran there panicked")
    }
}

/// Runs a test on two nodes.
pub(crate) fn on_two_nodes(name: &'static str, test: impl FnOnce(&mut Node, &OtherNode) + Send + 'static) {
    on_node(name, move |node| {
        let (jobs, queue) = mpsc::channel::<OnNode>();
        let (ready, started) = mpsc::channel();
        let other = thread::spawn(move || {
            on_node("the other node", move |node| {
                ready.send(gettid().as_raw()).unwrap();
                for job in queue {
                    job(node);
                }
            });
        });
        let second = OtherNode { thread: started.recv().unwrap(), jobs };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(node, &second)));
        drop(second);
        let ended = other.join();
        if let Err(panic) = result.and(ended) {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The same, for tests that look at tcx links.
pub(crate) fn on_tcx_node(name: &'static str, test: impl FnOnce(&mut Node) + Send + 'static) {
    if KernelFeatures::probe().tcx.is_absent() {
        eprintln!("SKIPPED: {name}: the kernel has no tcx");
        return;
    }
    on_node(name, test);
}

/// The thread's network, mount namespace and cgroup.
pub(crate) struct Node {
    folder: tempfile::TempDir,
    cgroup: PathBuf,
    pub(crate) datapath: Option<Datapath>,
    next_service: u32,
}

impl Node {
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let folder = tempfile::Builder::new().prefix("mrt-").tempdir().unwrap();
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        ip("link set lo up");
        for family in ["-4", "-6"] {
            ip(&format!("{family} rule add fwmark 0x200/0xf00 lookup 2004"));
            ip(&format!("{family} route add local default dev lo table 2004"));
        }
        Self { folder, cgroup: join_own_cgroup(), datapath: None, next_service: 1 }
    }

    fn tear_down(&mut self) {
        self.datapath = None;
        let removed = cleanup(&self.pin_root());
        let _ = nix::mount::umount(self.folder.path());
        // Back to where the process is, so that the folder is empty.
        let parent = self.cgroup.parent().unwrap();
        let _ = fs::write(parent.join("cgroup.threads"), gettid().to_string());
        let gone = fs::remove_dir(&self.cgroup);
        if !thread::panicking() {
            removed.unwrap();
            gone.unwrap();
        }
    }

    pub(crate) fn pin_root(&self) -> PathBuf {
        self.folder.path().join("millrace")
    }

    pub(crate) fn config(&self) -> DatapathConfig {
        DatapathConfig {
            pin_root: self.pin_root(),
            cgroup: Some(self.cgroup.clone()),
            ..DatapathConfig::default()
        }
    }

    pub(crate) fn plan(&self) -> DatapathPlan {
        plan(&self.config(), &KernelFeatures::probe()).unwrap()
    }

    pub(crate) fn clsact_plan(&self) -> DatapathPlan {
        let config = DatapathConfig { device_attachment: DeviceAttachmentChoice::Clsact, ..self.config() };
        plan(&config, &KernelFeatures::probe()).unwrap()
    }

    pub(crate) fn load(&mut self) -> &mut Datapath {
        let plan = self.plan();
        self.load_plan(&plan)
    }

    pub(crate) fn load_plan(&mut self, plan: &DatapathPlan) -> &mut Datapath {
        match Datapath::load(plan, &load_config()) {
            Ok(datapath) => self.datapath.insert(datapath),
            Err(error) => panic!("{}", chain(&error)),
        }
    }

    pub(crate) fn datapath(&mut self) -> &mut Datapath {
        self.datapath.as_mut().expect("the test loads first")
    }

    /// Makes an address a service of the proxy.
    pub(crate) fn proxy_service(&mut self, address: IpAddr, port: u16) {
        let value =
            ServiceValue { service: self.service_id(), backends: 0, flags: ServiceFlags::L7_REDIRECT };
        let key = ServiceKey::new(address.into(), Be16::new(port), Protocol::Tcp);
        self.datapath().maps().services().insert(&key, &value).unwrap();
    }

    /// Makes an address a service that the kernel balances.
    pub(crate) fn balanced_service(
        &mut self,
        address: SocketAddr,
        protocol: Protocol,
        backends: &[SocketAddr],
    ) {
        let service = self.service_id();
        let maps = self.datapath().maps();
        for (slot, backend) in (0..).zip(backends) {
            let id = service * 1000 + slot;
            let value = BackendValue::active(backend.ip().into(), Be16::new(backend.port()), protocol);
            maps.backends().insert(&id, &value).unwrap();
            maps.slots().insert(&SlotKey { service, slot }, &id).unwrap();
        }
        let key = ServiceKey::new(address.ip().into(), Be16::new(address.port()), protocol);
        let count = backends.len().try_into().unwrap();
        let value = ServiceValue { service, backends: count, flags: ServiceFlags::NONE };
        maps.services().insert(&key, &value).unwrap();
    }

    fn service_id(&mut self) -> u32 {
        self.next_service += 1;
        self.next_service
    }

    pub(crate) fn counters(&mut self) -> BTreeMap<&'static str, u64> {
        self.datapath().maps().dump().unwrap().counters
    }

    /// What one action adds to the counters; those that it leaves are left out.
    pub(crate) fn counted(&mut self, action: impl FnOnce(&mut Self)) -> BTreeMap<&'static str, u64> {
        let before = self.counters();
        action(self);
        let mut after = self.counters();
        after.retain(|name, value| {
            *value -= before[name];
            *value > 0
        });
        after
    }

    /// A namespace behind a veth whose host's side is `device`, with the subnets' first addresses.
    pub(crate) fn namespace(&self, device: &str, addresses: (IpAddr, IpAddr)) -> Namespace {
        let namespace = Namespace::new(device);
        ip(&format!("link add {device} type veth peer name eth0 netns {}", namespace.thread));
        let (v4, v6) = addresses;
        let (gateway4, gateway6) = (first_of(v4), first_of(v6));
        ip(&format!("addr add {gateway4}/24 dev {device}"));
        ip(&format!("addr add {gateway6}/64 dev {device} nodad"));
        ip(&format!("link set {device} up"));
        namespace.run(move || {
            ip("link set lo up");
            ip(&format!("addr add {v4}/24 dev eth0"));
            ip(&format!("addr add {v6}/64 dev eth0 nodad"));
            ip("link set eth0 up");
            ip(&format!("route add default via {gateway4}"));
            ip(&format!("-6 route add default via {gateway6}"));
        });
        namespace
    }

    pub(crate) fn client(&self) -> Namespace {
        self.namespace("mrt-client", (CLIENT4, CLIENT6))
    }

    pub(crate) fn backend(&self) -> Namespace {
        self.namespace("mrt-backend", (BACKEND4, BACKEND6))
    }

    /// Listeners as the proxy has them, known to the programs.
    pub(crate) fn proxy(&mut self, threads: usize) -> Vec<Listeners> {
        let listeners: Vec<_> = (0..threads).map(|_| Listeners::new()).collect();
        let pairs: Vec<_> = listeners
            .iter()
            .map(|pair| ListenerPair { v4: pair.v4.as_fd(), v6: Some(pair.v6.as_fd()) })
            .collect();
        self.datapath().set_listeners(&pairs).unwrap();
        listeners
    }
}

pub(crate) fn load_config() -> LoadConfig {
    LoadConfig { object: object(), constants: Constants::default() }
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A cgroup for the calling thread alone: a threaded one below the process's.
fn join_own_cgroup() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mount = KernelFeatures::probe().cgroup2.first().cloned().expect("cgroup v2 is mounted");
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let cgroup = mount.join(own).join(format!("mrt-{}-{number}", std::process::id()));
    fs::create_dir(&cgroup).unwrap();
    fs::write(cgroup.join("cgroup.type"), "threaded").unwrap();
    fs::write(cgroup.join("cgroup.threads"), gettid().to_string()).unwrap();
    cgroup
}

/// The two listening sockets of a proxy thread.
pub(crate) struct Listeners {
    pub(crate) v4: TcpListener,
    pub(crate) v6: TcpListener,
}

impl Listeners {
    fn new() -> Self {
        Self { v4: listen(Ipv4Addr::LOCALHOST.into()), v6: listen(Ipv6Addr::LOCALHOST.into()) }
    }

    pub(crate) fn of(&self, address: IpAddr) -> &TcpListener {
        if address.is_ipv4() { &self.v4 } else { &self.v6 }
    }
}

fn listen(address: IpAddr) -> TcpListener {
    let socket = transparent(address);
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.listen(128).unwrap();
    socket.into()
}

/// A TCP socket that may use any address.
pub(crate) fn transparent(address: IpAddr) -> Socket {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM, None).unwrap();
    // The kernel takes the IPv4 option for IPv6 sockets too.
    socket.set_ip_transparent_v4(true).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket
}

/// Waits for a connection, so that a test that fails does not hang.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut set = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(PATIENCE).expect("fits");
    if poll(&mut set, timeout)? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let (stream, peer) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok((stream, peer))
}

pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Runs `ip`, in the calling thread's namespaces.
pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn first_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & !0xff | 1).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !0xffff | 1).into(),
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Another network namespace, kept by a thread that runs what it is given.
pub(crate) struct Namespace {
    pub(crate) thread: i32,
    jobs: mpsc::Sender<Job>,
}

impl Namespace {
    fn new(name: &str) -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, started) = mpsc::channel();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                ready.send(gettid().as_raw()).unwrap();
                for job in queue {
                    job();
                }
            })
            .unwrap();
        Self { thread: started.recv().unwrap(), jobs }
    }

    /// Runs something there, waits for it and gives its answer.
    pub(crate) fn run<T: Send + 'static>(&self, action: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(action).recv().expect("what ran there panicked")
    }

    /// Starts something there; its answer comes later.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        action: impl FnOnce() -> T + Send + 'static,
    ) -> mpsc::Receiver<T> {
        let (done, answer) = mpsc::channel();
        let job = move || {
            // Nobody may be waiting any more.
            let _ = done.send(action());
        };
        self.jobs.send(Box::new(job)).expect("the namespace's thread lives");
        answer
    }
}
