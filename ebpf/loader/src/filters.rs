//! Attaching to devices: by tcx link, or by a filter of the clsact queueing discipline.

use std::error::Error;

use aya::programs::links::FdLink;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
};
use aya::programs::{Link, LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use nix::net::if_::if_indextoname;

use crate::programs::Direction;

/// Our filter's place: the first priority and one handle, so that it is found again for replacing.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// The name of a device of this network namespace.
pub(crate) fn name_of(index: u32) -> Option<String> {
    // nix takes the C library's null for success and gives an empty name.
    if_indextoname(index).ok()?.into_string().ok().filter(|name| !name.is_empty())
}

/// A new link at the head of one direction of a device.
pub(crate) fn attach_tcx(
    program: &mut SchedClassifier,
    device: &str,
    direction: Direction,
) -> Result<FdLink, Box<dyn Error + Send + Sync>> {
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(device, of(direction), options)?;
    Ok(program.take_link(id)?.try_into()?)
}

/// Adds our filter, or gives the one that is there a new program in one step.
pub(crate) fn attach_clsact(
    program: &mut SchedClassifier,
    device: &str,
    direction: Direction,
) -> Result<(), ProgramError> {
    match qdisc_add_clsact(device) {
        Ok(()) => {}
        // Already there, ours or another program's. Any other trouble shows when the filter is added.
        Err(_already_there) => {}
    }
    let options = TcAttachOptions::Netlink(NlOptions { priority: PRIORITY, handle: HANDLE, classid: None });
    let id = match program.attach_with_options(device, of(direction), options) {
        Ok(id) => id,
        // Replacing works only if it failed because ours is there; if not, its own reason is the one to tell.
        Err(error) => program.attach_to_link(existing(device, direction)?).map_err(|_| error)?,
    };
    // The filter shall outlive this handle.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Removes our filter. The queueing discipline stays: others may use it.
pub(crate) fn detach_clsact(device: &str, direction: Direction) -> Result<(), ProgramError> {
    existing(device, direction)?.detach()
}

const fn of(direction: Direction) -> TcAttachType {
    match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    }
}

fn existing(device: &str, direction: Direction) -> Result<SchedClassifierLink, ProgramError> {
    SchedClassifierLink::attached(device, of(direction), PRIORITY, HANDLE, None)
        .map_err(|error| ProgramError::TcError(TcError::IoError(error)))
}
