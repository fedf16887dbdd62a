//! The thin edge: frontends to the kernel's load-balancing maps.
//!
//! No packet sees half of a change. Growing goes backends, slots, service; shrinking goes service, slots,
//! backends; a slot is overwritten in place, so every slot below the service's count is always filled. A change
//! that finds a map full is taken back whole: the last good state goes on serving.

use std::collections::{BTreeMap, BTreeSet};

use mesh_ebpf_abi::{BackendValue, ServiceFlags, ServiceKey, ServiceValue, SlotKey};
use mesh_ebpf_maps::{LoadBalancerMaps, MapError};
use mesh_tables::{Target, TargetError};

use crate::plan::{LbMapEntries, plan_frontend, plan_key};
use crate::tables::{Frontend, FrontendKey};

/// Carries frontends to the maps. Identifiers of what an earlier process left are taken over, so a restart
/// writes nothing that is already right.
pub struct FrontendTarget<M> {
    maps: M,
    services: BTreeMap<ServiceKey, Service>,
    backends: BTreeMap<BackendValue, Backend>,
    service_ids: Identifiers,
    backend_ids: Identifiers,
}

/// Identifiers that entries of the maps have. None is given twice, also after the last one.
struct Identifiers {
    last: u32,
    used: BTreeSet<u32>,
}

impl Identifiers {
    fn new(used: impl IntoIterator<Item = u32>) -> Self {
        let used: BTreeSet<u32> = used.into_iter().collect();
        Self { last: used.last().copied().unwrap_or_default(), used }
    }

    /// One that no entry has, for one that is about to be written; never 0. There are more of them than the
    /// maps have room.
    fn next(&mut self) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1).max(1);
            if !self.used.contains(&self.last) {
                return self.last;
            }
        }
    }
}

/// A service entry as it is in the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    id: u32,
    flags: ServiceFlags,
    /// What each slot holds, as far as they are as we write them.
    slots: Vec<BackendValue>,
    /// Whether the entry counts these slots and no other has its identifier. Not so only where the maps were
    /// not left by us.
    is_whole: bool,
}

struct Backend {
    id: u32,
    /// Slots that point to it.
    slots: usize,
}

/// Entries that a change has added.
#[derive(Default)]
struct Taken {
    backends: Vec<BackendValue>,
    slots: Vec<SlotKey>,
}

impl<M: LoadBalancerMaps + 'static> FrontendTarget<M> {
    /// Reads what is in the maps. Costs a few system calls for each entry.
    pub fn restore(mut maps: M) -> Result<Self, MapError> {
        let by_id: BTreeMap<u32, BackendValue> = maps.backends().entries()?.into_iter().collect();
        let slots: BTreeMap<SlotKey, u32> = maps.slots().entries()?.into_iter().collect();
        let entries = maps.services().entries()?;
        let service_ids = entries.iter().map(|(_, value)| value.service);
        // Of two identifiers of one backend one is used on; the other goes when its slots are written.
        let usable = by_id.iter().filter(|(id, _)| **id != 0);
        let mut target = Self {
            service_ids: Identifiers::new(service_ids.chain(slots.keys().map(|slot| slot.service))),
            backend_ids: Identifiers::new(by_id.keys().copied()),
            maps,
            services: BTreeMap::new(),
            backends: usable.map(|(id, value)| (*value, Backend { id: *id, slots: 0 })).collect(),
        };
        let mut owned = BTreeSet::new();
        for (key, value) in entries {
            let is_first = owned.insert(value.service);
            let backend = |slot| {
                let id = slots.get(&SlotKey { service: value.service, slot }).filter(|_| is_first)?;
                by_id
                    .get(id)
                    .filter(|backend| target.backends.get(backend).is_some_and(|known| known.id == *id))
            };
            let filled: Vec<BackendValue> =
                (0..u32::from(value.backends)).map_while(backend).copied().collect();
            let is_whole = is_first && filled.len() == usize::from(value.backends);
            // Two services of one identifier would write into each other's slots.
            let id = if is_first { value.service } else { target.service_ids.next() };
            target.service_ids.used.insert(id);
            for backend in &filled {
                target.point_to(backend);
            }
            target.services.insert(key, Service { id, flags: value.flags, slots: filled, is_whole });
        }
        Ok(target)
    }

    /// Gives the maps back.
    pub fn into_maps(self) -> M {
        self.maps
    }

    fn write(&mut self, entries: &LbMapEntries) -> Result<(), MapError> {
        let current = self.services.get(&entries.key).cloned();
        if let Some(current) = &current
            && current.is_whole
            && current.flags == entries.flags
            && current.slots == entries.backends
        {
            return Ok(());
        }
        let id = match &current {
            Some(service) => service.id,
            None => self.service_ids.next(),
        };
        let is_new = current.is_none();
        let before = current.map(|service| service.slots).unwrap_or_default();
        let count = u16::try_from(entries.backends.len()).expect("the plan has at most 65535 backends");
        let value = ServiceValue { service: id, backends: count, flags: entries.flags };
        let mut taken = Taken::default();
        let mut outcome = self.take_room(id, before.len(), entries, &mut taken);
        if is_new && outcome.is_ok() {
            outcome = self.maps.services().insert(&entries.key, &value);
        }
        if let Err(error) = outcome {
            self.give_back(taken);
            return Err(error);
        }
        // From here on entries are only replaced and removed, for which there is always room.
        for ((slot, backend), held) in (0..).zip(&entries.backends).zip(&before) {
            if held != backend {
                let backend = self.backend_id(backend)?;
                self.maps.slots().insert(&SlotKey { service: id, slot }, &backend)?;
            }
        }
        if !is_new {
            self.maps.services().insert(&entries.key, &value)?;
        }
        for slot in entries.backends.len()..before.len() {
            let slot = u32::try_from(slot).expect("slots are counted in 16 bits");
            self.maps.slots().remove(&SlotKey { service: id, slot })?;
        }
        self.service_ids.used.insert(id);
        for backend in &entries.backends {
            self.point_to(backend);
        }
        let slots = entries.backends.clone();
        self.services.insert(entries.key, Service { id, flags: entries.flags, slots, is_whole: true });
        self.release(&before)
    }

    /// Adds the entries that a change needs room for: backends, and slots from `first` on. Nothing that is
    /// served changes by that.
    fn take_room(
        &mut self,
        service: u32,
        first: usize,
        entries: &LbMapEntries,
        taken: &mut Taken,
    ) -> Result<(), MapError> {
        for (index, backend) in entries.backends.iter().enumerate() {
            let is_new = !self.backends.contains_key(backend);
            let id = self.backend_id(backend)?;
            if is_new {
                taken.backends.push(*backend);
            }
            if index >= first {
                let slot = u32::try_from(index).expect("slots are counted in 16 bits");
                let slot = SlotKey { service, slot };
                self.maps.slots().insert(&slot, &id)?;
                taken.slots.push(slot);
            }
        }
        Ok(())
    }

    /// Takes out what a change that cannot be finished has added: a full map is not to be filled with what
    /// serves nobody. What cannot be removed now is an orphan, which the next prune takes out.
    fn give_back(&mut self, taken: Taken) {
        for slot in &taken.slots {
            let _ = self.maps.slots().remove(slot);
        }
        for backend in &taken.backends {
            if let Some(known) = self.backends.remove(backend) {
                let _ = self.maps.backends().remove(&known.id);
                self.backend_ids.used.remove(&known.id);
            }
        }
    }

    fn take_out(&mut self, key: &ServiceKey) -> Result<(), MapError> {
        let Some(service) = self.services.get(key).cloned() else { return Ok(()) };
        self.maps.services().remove(key)?;
        self.services.remove(key);
        for slot in 0..service.slots.len() {
            let slot = u32::try_from(slot).expect("slots are counted in 16 bits");
            self.maps.slots().remove(&SlotKey { service: service.id, slot })?;
        }
        self.service_ids.used.remove(&service.id);
        self.release(&service.slots)
    }

    /// The identifier of a backend, which is in the map from then on.
    fn backend_id(&mut self, backend: &BackendValue) -> Result<u32, MapError> {
        if let Some(known) = self.backends.get(backend) {
            return Ok(known.id);
        }
        let id = self.backend_ids.next();
        self.maps.backends().insert(&id, backend)?;
        self.backend_ids.used.insert(id);
        self.backends.insert(*backend, Backend { id, slots: 0 });
        Ok(id)
    }

    fn point_to(&mut self, backend: &BackendValue) {
        if let Some(known) = self.backends.get_mut(backend) {
            known.slots += 1;
        }
    }

    /// Counts the slots down and removes backends that no slot points to.
    fn release(&mut self, slots: &[BackendValue]) -> Result<(), MapError> {
        for backend in slots {
            let Some(known) = self.backends.get_mut(backend) else { continue };
            known.slots -= 1;
            if known.slots == 0 {
                let id = known.id;
                self.maps.backends().remove(&id)?;
                self.backend_ids.used.remove(&id);
                self.backends.remove(backend);
            }
        }
        Ok(())
    }

    /// Slots and backends that belong to nothing: a process died between two steps.
    fn take_out_orphans(&mut self) -> Result<usize, MapError> {
        let mut count = 0;
        let owners: BTreeMap<u32, usize> =
            self.services.values().map(|service| (service.id, service.slots.len())).collect();
        for (slot, _) in self.maps.slots().entries()? {
            if owners.get(&slot.service).is_none_or(|filled| slot.slot as usize >= *filled) {
                self.maps.slots().remove(&slot)?;
                count += 1;
            }
        }
        let used: BTreeSet<u32> =
            self.backends.values().filter(|backend| backend.slots > 0).map(|backend| backend.id).collect();
        for (id, _) in self.maps.backends().entries()? {
            if !used.contains(&id) {
                self.maps.backends().remove(&id)?;
                self.backend_ids.used.remove(&id);
                count += 1;
            }
        }
        self.backends.retain(|_, backend| backend.slots > 0);
        Ok(count)
    }
}

fn told(error: &dyn std::error::Error) -> TargetError {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    TargetError { message }
}

impl<M: LoadBalancerMaps + 'static> Target<Frontend> for FrontendTarget<M> {
    fn apply(&mut self, row: &Frontend) -> Result<(), TargetError> {
        let entries = plan_frontend(row).map_err(|error| told(&error))?;
        self.write(&entries).map_err(|error| told(&error))
    }

    fn remove(&mut self, key: &FrontendKey) -> Result<(), TargetError> {
        // What cannot be planned was never written.
        let Ok(key) = plan_key(key) else { return Ok(()) };
        self.take_out(&key).map_err(|error| told(&error))
    }

    fn prune(&mut self, desired: &mut dyn Iterator<Item = &Frontend>) -> Result<usize, TargetError> {
        let wanted: BTreeSet<ServiceKey> = desired.filter_map(|row| plan_key(&row.key).ok()).collect();
        let left: Vec<ServiceKey> =
            self.services.keys().filter(|key| !wanted.contains(key)).copied().collect();
        for key in &left {
            self.take_out(key).map_err(|error| told(&error))?;
        }
        let orphans = self.take_out_orphans().map_err(|error| told(&error))?;
        Ok(left.len() + orphans)
    }
}

#[cfg(test)]
mod tests;
