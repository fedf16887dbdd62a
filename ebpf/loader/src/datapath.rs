//! The loaded datapath.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, Program, SchedClassifier, SkLookup};
use aya::{Ebpf, EbpfLoader};
use mesh_ebpf_maps::{ListenerPair, MapError, PinnedMaps, layouts};
use nix::net::if_::if_nametoindex;
use tracing::{debug, info};

use crate::constants::Constants;
use crate::device::Device;
use crate::error::LoadError;
use crate::links;
use crate::pins::{self, AttachmentPin, DevicePin, Pins, pin_error};
use crate::plan::{DatapathPlan, DeviceAttachment, SocketHooks};
use crate::programs::{SK_LOOKUP, SOCK_ADDR, TC, TC_EMPTY, directions, for_device};
use crate::{filters, sys};

/// What loading needs besides the plan.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// The object file that `cargo xtask bpf` makes.
    pub object: PathBuf,
    /// Values of the constants. `event_sampling`, `socket_lb_host_only`, `pod_lb` and `host_routing` are taken from the plan, and a
    /// `host_netns_cookie` of 0 is replaced by the calling thread's.
    pub constants: Constants,
}

/// The datapath of one node: its pins, and handles on its maps.
///
/// Dropping it changes nothing in the kernel. [`cleanup`] takes it out.
pub struct Datapath {
    pins: Pins,
    attachment: DeviceAttachment,
    /// Pods' packets are balanced at their devices.
    pod_lb: bool,
    maps: PinnedMaps,
    instructions: Vec<(&'static str, u32)>,
}

impl Datapath {
    /// Loads all programs, with new maps or the pinned ones, and attaches those that are attached once: to
    /// the calling thread's network namespace and to the plan's cgroup. Devices that were attached by an
    /// earlier process get the new programs too. Links are given new programs in place, so that at no
    /// moment a packet or call meets none. A second of time, mostly the verifier's.
    ///
    /// # Errors
    /// See [`LoadError`]. What was replaced before the error stays replaced; nothing is detached.
    pub fn load(plan: &DatapathPlan, config: &LoadConfig) -> Result<Self, LoadError> {
        let pins = Pins::new(&plan.pin_root);
        // Before anything is touched: programs loaded on maps of another layout would read them wrongly.
        PinnedMaps::check_existing(pins.root())?;
        pins.create()?;

        let mut object = open_object(plan, config, &pins)?;
        let mut instructions = Vec::new();
        for &name in TC.iter().chain([&TC_EMPTY]) {
            let program: &mut SchedClassifier = program(&mut object, config, name)?;
            program.load().map_err(refused(name))?;
            instructions.push((name, verified(program.info(), name)?));
            pins::replace(&pins.program(name), |path| program.pin(path).map_err(Into::into))?;
        }
        instructions.push((SK_LOOKUP, attach_sk_lookup(&mut object, config, &pins)?));
        match &plan.socket_hooks {
            Some(hooks) => instructions.extend(attach_socket_hooks(&mut object, config, &pins, hooks)?),
            None => {
                for name in SOCK_ADDR {
                    links::remove(&pins.link(name))?;
                }
            }
        }
        instructions.sort_unstable();

        let maps = PinnedMaps::open(pins.root())?;
        let attachment = plan.device_attachment;
        let datapath = Self { pins, attachment, pod_lb: plan.pod_lb(), maps, instructions };
        datapath.refresh_devices()?;
        info!(pin_root = %plan.pin_root.display(), "datapath loaded");
        Ok(datapath)
    }

    /// Takes over what an earlier process loaded, changing nothing; `None` if something of the plan is not
    /// there, in which case [`Datapath::load`] puts it there.
    ///
    /// # Errors
    /// Maps of another version.
    pub fn adopt(plan: &DatapathPlan) -> Result<Option<Self>, LoadError> {
        let pins = Pins::new(&plan.pin_root);
        PinnedMaps::check_existing(pins.root())?;
        let hooks = if plan.socket_hooks.is_some() { SOCK_ADDR } else { &[] };
        let links = hooks.iter().chain([&SK_LOOKUP]).map(|name| pins.link(name));
        let programs = TC.iter().map(|name| pins.program(name));
        let maps = layouts().iter().map(|layout| pins.root().join(layout.name));
        if let Some(missing) = links.chain(programs).chain(maps).find(|path| !path.exists()) {
            debug!(pin = %missing.display(), "nothing to adopt");
            return Ok(None);
        }
        let maps = PinnedMaps::open(pins.root())?;
        let attachment = plan.device_attachment;
        Ok(Some(Self { pins, attachment, pod_lb: plan.pod_lb(), maps, instructions: Vec::new() }))
    }

    /// Attaches the packet programs of its kind to a device, before other programs there; replaces those that are
    /// attached already.
    ///
    /// # Errors
    /// [`LoadError::NoDevice`], or what the kernel says.
    pub fn attach(&mut self, device: &Device) -> Result<(), LoadError> {
        let index = index_of(device)?;
        let wanted = directions(device.kind, self.pod_lb).iter().map(|direction| DevicePin {
            attachment: self.attachment_pin(),
            kind: device.kind,
            direction: *direction,
            index,
        });
        let wanted: Vec<DevicePin> = wanted.collect();
        for pin in &wanted {
            self.attach_pin(*pin, &device.name)?;
        }
        // The same device attached another way: by an agent with another plan, or as another kind. Goes
        // after the new program has come.
        for other in self.pins.devices()? {
            if other.index == index && !wanted.contains(&other) {
                self.detach_pin(other)?;
            }
        }
        debug!(device = %device, index, "device attached");
        Ok(())
    }

    /// Takes the packet program off a device; false if it was not attached. A device that is gone needs no
    /// detaching, see [`Datapath::forget_missing_devices`].
    ///
    /// # Errors
    /// [`LoadError::NoDevice`], or what the kernel says.
    pub fn detach(&mut self, device: &Device) -> Result<bool, LoadError> {
        let index = index_of(device)?;
        let mut found = false;
        for pin in self.pins.devices()?.into_iter().filter(|pin| pin.index == index) {
            self.detach_pin(pin)?;
            found = true;
        }
        Ok(found)
    }

    /// Indices of the devices that the packet program is attached to, sorted; gone ones too until
    /// [`Datapath::forget_missing_devices`].
    pub fn attached_devices(&self) -> Result<Vec<u32>, LoadError> {
        let mut indices: Vec<_> = self.pins.devices()?.iter().map(|pin| pin.index).collect();
        indices.sort_unstable();
        indices.dedup();
        Ok(indices)
    }

    /// Removes the pins of devices that no longer exist in this network namespace; how many devices those were.
    pub fn forget_missing_devices(&mut self) -> Result<usize, LoadError> {
        let mut forgotten = BTreeSet::new();
        for pin in self.pins.devices()? {
            if filters::name_of(pin.index).is_none() {
                pins::remove(&self.pins.link(&pin.to_string()))?;
                forgotten.insert(pin.index);
            }
        }
        Ok(forgotten.len())
    }

    /// Puts the proxy's listeners where the programs find them; see [`PinnedMaps::set_listeners`].
    pub fn set_listeners(&mut self, pairs: &[ListenerPair<'_>]) -> Result<(), MapError> {
        self.maps.set_listeners(pairs)
    }

    /// The maps. More handles on the same maps come from [`PinnedMaps::open`].
    pub fn maps(&mut self) -> &mut PinnedMaps {
        &mut self.maps
    }

    /// The folder that everything is pinned below.
    pub fn pin_root(&self) -> &Path {
        self.pins.root()
    }

    /// Instructions that the verifier looked at, by program, sorted by name; empty for an adopted datapath,
    /// 0 where the kernel does not say (before 5.16).
    pub fn verified_instructions(&self) -> &[(&'static str, u32)] {
        &self.instructions
    }

    fn attachment_pin(&self) -> AttachmentPin {
        match self.attachment {
            DeviceAttachment::Tcx => AttachmentPin::Link,
            DeviceAttachment::Clsact => AttachmentPin::Filter,
        }
    }

    /// Gives the programs just loaded to all devices that had earlier ones.
    fn refresh_devices(&self) -> Result<(), LoadError> {
        for pin in self.pins.devices()? {
            match filters::name_of(pin.index) {
                Some(name) => self.attach_pin(pin, &name)?,
                // The device went while no agent was there to see it.
                None => {
                    pins::remove(&self.pins.link(&pin.to_string()))?;
                }
            }
        }
        Ok(())
    }

    fn attach_pin(&self, pin: DevicePin, device: &str) -> Result<(), LoadError> {
        let name = for_device(pin.kind, pin.direction);
        let path = self.pins.link(&pin.to_string());
        let mut program = self.pinned_program(name)?;
        match pin.attachment {
            AttachmentPin::Link => {
                let fd = program.fd().map_err(attach_error(name, device))?;
                if links::update(&path, pin.index.into(), fd.as_fd())? {
                    return Ok(());
                }
                let link = filters::attach_tcx(&mut program, device, pin.direction)
                    .map_err(attach_error(name, device))?;
                links::pin(&path, link)
            }
            AttachmentPin::Filter => {
                filters::attach_clsact(&mut program, device, pin.direction)
                    .map_err(attach_error(name, device))?;
                // Stands for the filter, which cannot be pinned.
                pins::replace(&path, |path| program.pin(path).map_err(Into::into))
            }
        }
    }

    fn detach_pin(&self, pin: DevicePin) -> Result<(), LoadError> {
        detach_pin(&self.pins, pin)
    }

    fn pinned_program(&self, name: &str) -> Result<SchedClassifier, LoadError> {
        let path = self.pins.program(name);
        SchedClassifier::from_pin(&path).map_err(|error| pin_error(&path, "opened")(io::Error::other(error)))
    }
}

/// What [`cleanup`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Links and filters; what they did has stopped.
    pub links: usize,
    /// Programs.
    pub programs: usize,
    /// Maps, and what was in them.
    pub maps: usize,
}

/// Takes everything below a pin root out of the kernel: links and filters first, then programs, then maps.
/// Touches nothing else; a pin root that does not exist is no error.
///
/// # Errors
/// The first pin that cannot be removed; those before it are gone.
pub fn cleanup(pin_root: &Path) -> Result<Removed, LoadError> {
    let pins = Pins::new(pin_root);
    let mut removed = Removed::default();
    for pin in pins.devices()? {
        detach_pin(&pins, pin)?;
        removed.links += 1;
    }
    for name in pins::names(&pins.links())? {
        removed.links += usize::from(links::remove(&pins.link(&name))?);
    }
    removed.programs += remove_all(&pins.programs())?;
    for layout in layouts() {
        removed.maps += usize::from(pins::remove(&pin_root.join(layout.name))?);
    }
    for folder in [pins.links(), pins.programs(), pin_root.to_owned()] {
        match fs::remove_dir(&folder) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => {}
            // Somebody else's file, or the mount point itself.
            Err(error) => debug!(folder = %folder.display(), %error, "folder stays"),
        }
    }
    Ok(removed)
}

fn remove_all(folder: &Path) -> Result<usize, LoadError> {
    let names = pins::names(folder)?;
    for name in &names {
        pins::remove(&folder.join(name))?;
    }
    Ok(names.len())
}

fn detach_pin(pins: &Pins, pin: DevicePin) -> Result<(), LoadError> {
    let path = pins.link(&pin.to_string());
    match pin.attachment {
        AttachmentPin::Link => links::remove(&path).map(drop),
        AttachmentPin::Filter => {
            if let Some(device) = filters::name_of(pin.index)
                && let Err(source) = filters::detach_clsact(&device, pin.direction)
                // It may go meanwhile, and its filters with it.
                && filters::name_of(pin.index).is_some()
            {
                return Err(LoadError::Attach {
                    program: for_device(pin.kind, pin.direction),
                    action: "detached from",
                    target: device,
                    source: source.into(),
                });
            }
            pins::remove(&path).map(drop)
        }
    }
}

fn open_object(plan: &DatapathPlan, config: &LoadConfig, pins: &Pins) -> Result<Ebpf, LoadError> {
    let mut constants = config.constants;
    constants.event_sampling = plan.event_sampling;
    constants.pod_lb = plan.pod_lb().into();
    constants.host_routing = plan.host_routing.into();
    constants.socket_lb_host_only = plan.socket_hooks.as_ref().is_some_and(|hooks| hooks.host_only).into();
    if constants.host_netns_cookie == 0 {
        let open = |source| LoadError::Open { path: PathBuf::from(OWN_NETNS), source };
        constants.host_netns_cookie = sys::netns_cookie().map_err(open)?;
    }
    let mut loader = EbpfLoader::new();
    constants.apply(&mut loader);
    loader
        .default_map_pin_directory(pins.root())
        .load_file(&config.object)
        .map_err(|source| LoadError::Object { path: config.object.clone(), source: Box::new(source) })
}

/// The calling thread's namespace, which need not be the process's.
const OWN_NETNS: &str = "/proc/thread-self/ns/net";

fn attach_sk_lookup(object: &mut Ebpf, config: &LoadConfig, pins: &Pins) -> Result<u32, LoadError> {
    let program: &mut SkLookup = program(object, config, SK_LOOKUP)?;
    program.load().map_err(refused(SK_LOOKUP))?;
    let instructions = verified(program.info(), SK_LOOKUP)?;

    let (netns, inode) = open_target(Path::new(OWN_NETNS))?;
    let pin = pins.link(SK_LOOKUP);
    let fd = program.fd().map_err(refused(SK_LOOKUP))?;
    if !links::update(&pin, inode, fd.as_fd())? {
        let mut create = || -> Result<FdLink, aya::programs::ProgramError> {
            let link = program.attach(&netns)?;
            Ok(program.take_link(link)?.into())
        };
        links::pin(&pin, create().map_err(attach_error(SK_LOOKUP, OWN_NETNS))?)?;
    }
    Ok(instructions)
}

fn attach_socket_hooks(
    object: &mut Ebpf,
    config: &LoadConfig,
    pins: &Pins,
    hooks: &SocketHooks,
) -> Result<Vec<(&'static str, u32)>, LoadError> {
    let (cgroup, id) = open_target(&hooks.cgroup)?;
    let target = hooks.cgroup.to_string_lossy();
    let mut instructions = Vec::new();
    // The reverse ones first: a socket that has been balanced must find its way back.
    for &name in SOCK_ADDR.iter().rev() {
        let program: &mut CgroupSockAddr = program(object, config, name)?;
        program.load().map_err(refused(name))?;
        instructions.push((name, verified(program.info(), name)?));
        let pin = pins.link(name);
        let fd = program.fd().map_err(refused(name))?;
        if links::update(&pin, id, fd.as_fd())? {
            continue;
        }
        let mut create = || -> Result<FdLink, Box<dyn Error + Send + Sync>> {
            // A link lets others attach beside it whatever is asked for here; asking fails.
            let link = program.attach(&cgroup, CgroupAttachMode::Single)?;
            Ok(program.take_link(link)?.try_into()?)
        };
        links::pin(&pin, create().map_err(attach_error(name, &target))?)?;
    }
    Ok(instructions)
}

/// Opens what a link is attached to, with the number by which the kernel tells it.
fn open_target(path: &Path) -> Result<(File, u64), LoadError> {
    let open = || {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok((file, inode))
    };
    open().map_err(|source| LoadError::Open { path: path.to_owned(), source })
}

fn program<'o, P>(
    object: &'o mut Ebpf,
    config: &LoadConfig,
    name: &'static str,
) -> Result<&'o mut P, LoadError>
where
    &'o mut P: TryFrom<&'o mut Program>,
{
    object
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| LoadError::NoProgram { path: config.object.clone(), program: name })
}

fn refused(program: &'static str) -> impl FnOnce(aya::programs::ProgramError) -> LoadError {
    move |source| LoadError::Verifier { program, source: Box::new(source) }
}

fn verified(
    info: Result<aya::programs::ProgramInfo, aya::programs::ProgramError>,
    name: &'static str,
) -> Result<u32, LoadError> {
    Ok(info.map_err(refused(name))?.verified_instruction_count().unwrap_or(0))
}

fn attach_error<E: Into<Box<dyn Error + Send + Sync>>>(
    program: &'static str,
    target: &str,
) -> impl FnOnce(E) -> LoadError {
    let target = target.to_owned();
    move |source| LoadError::Attach { program, action: "attached to", target, source: source.into() }
}

fn index_of(device: &Device) -> Result<u32, LoadError> {
    if_nametoindex(device.name.as_str())
        .map_err(|error| LoadError::NoDevice { device: device.name.clone(), source: error.into() })
}
