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
    last_service: u32,
    last_backend: u32,
}

/// A service entry as it is in the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    id: u32,
    flags: ServiceFlags,
    /// What each slot holds.
    slots: Vec<BackendValue>,
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
        let last_slot_owner = slots.keys().map(|slot| slot.service).max().unwrap_or_default();
        let mut target = Self {
            last_service: entries
                .iter()
                .map(|(_, value)| value.service)
                .max()
                .unwrap_or_default()
                .max(last_slot_owner),
            last_backend: by_id.keys().copied().max().unwrap_or_default(),
            maps,
            services: BTreeMap::new(),
            backends: by_id.iter().map(|(id, value)| (*value, Backend { id: *id, slots: 0 })).collect(),
        };
        for (key, value) in entries {
            let filled = (0..u32::from(value.backends))
                .map_while(|slot| by_id.get(slots.get(&SlotKey { service: value.service, slot })?).copied());
            let service = Service { id: value.service, flags: value.flags, slots: filled.collect() };
            for backend in &service.slots {
                target.point_to(backend);
            }
            target.services.insert(key, service);
        }
        Ok(target)
    }

    fn write(&mut self, entries: &LbMapEntries) -> Result<(), MapError> {
        let current = self.services.get(&entries.key).cloned();
        if let Some(current) = &current
            && current.flags == entries.flags
            && current.slots == entries.backends
        {
            return Ok(());
        }
        let id = match &current {
            Some(service) => service.id,
            None => {
                self.last_service = self.last_service.wrapping_add(1).max(1);
                self.last_service
            }
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
        for backend in &entries.backends {
            self.point_to(backend);
        }
        let slots = entries.backends.clone();
        self.services.insert(entries.key, Service { id, flags: entries.flags, slots });
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
        self.release(&service.slots)
    }

    /// The identifier of a backend, which is in the map from then on.
    fn backend_id(&mut self, backend: &BackendValue) -> Result<u32, MapError> {
        if let Some(known) = self.backends.get(backend) {
            return Ok(known.id);
        }
        self.last_backend = self.last_backend.wrapping_add(1).max(1);
        let id = self.last_backend;
        self.maps.backends().insert(&id, backend)?;
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
