//! Capabilities of this process: names, and letting go of them.

use std::io;

use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits,
};

/// The number of the last capability that Linux knows (6.18: CAP_CHECKPOINT_RESTORE is 40); asking
/// for more ends at the first that the kernel does not know.
const LAST_NUMBER: u32 = 63;

/// Gives up all but `keep`, for good: permitted, effective, inheritable, ambient and bounding set.
///
/// What cannot be kept because it is not there is not an error. Without CAP_SETPCAP the bounding set
/// stays as it is, which changes nothing once no_new_privs is set.
///
/// # Errors
/// What the kernel says to `capset`.
pub(crate) fn keep_only(keep: CapabilitySet) -> io::Result<()> {
    clear_ambient_capability_set()?;
    let now = capabilities(None)?;
    if now.permitted.contains(CapabilitySet::SETPCAP) {
        // After a change of user the permitted set is there but not in effect.
        set_capabilities(None, CapabilitySets { effective: now.permitted, ..now })?;
        for number in 0..=LAST_NUMBER {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            match capability_is_in_bounding_set(capability) {
                Ok(true) if !keep.contains(capability) => remove_capability_from_bounding_set(capability)?,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        // A worker that root starts gets no capability from being root.
        set_capabilities_secure_bits(
            CapabilitiesSecureBits::NO_ROOT
                | CapabilitiesSecureBits::NO_ROOT_LOCKED
                | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
                | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
                | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
        )?;
    }
    let kept = now.permitted & keep;
    set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )?;
    Ok(())
}

/// The effective capabilities by name, sorted by number.
///
/// # Errors
/// What the kernel says to `capget`.
pub(crate) fn effective_names() -> io::Result<Vec<String>> {
    Ok(names(capabilities(None)?.effective))
}

/// Whether any capability is left, in whatever set.
///
/// # Errors
/// What the kernel says to `capget`.
pub(crate) fn remaining() -> io::Result<CapabilitySet> {
    let sets = capabilities(None)?;
    Ok(sets.effective | sets.permitted | sets.inheritable)
}

/// The names as in capabilities(7).
pub(crate) fn names(set: CapabilitySet) -> Vec<String> {
    set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}
