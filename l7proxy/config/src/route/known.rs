//! What an earlier version of a table was compiled from, to share what has not changed.

use std::collections::HashMap;
use std::sync::Arc;

use mesh_xds_proto::take_entries;

use super::compile::{ROUTES, VIRTUAL_HOSTS};
use super::hosts::HostIndex;
use super::{Route, RouteTable, VirtualHost};

/// A table and the bytes that it was made of, which its owner keeps anyway.
pub(crate) struct Before<'a> {
    pub(super) table: &'a RouteTable,
    hosts: Vec<&'a [u8]>,
}

impl<'a> Before<'a> {
    /// `None`: `table` was not made of `bytes`. Cost: a look at each virtual host.
    pub(crate) fn new(bytes: &'a [u8], table: &'a RouteTable) -> Option<Self> {
        let (_, hosts) = take_entries(bytes, VIRTUAL_HOSTS)?;
        (hosts.len() == table.virtual_hosts.len()).then_some(Self { table, hosts })
    }

    /// The index of hosts, if it would be the same for these. Cost: a look at each.
    pub(super) fn same_hosts(&self, hosts: &[Arc<VirtualHost>], ignore_port: bool) -> Option<Arc<HostIndex>> {
        let old = &self.table.virtual_hosts;
        let same = old.len() == hosts.len()
            && self.table.hosts.ignores_port() == ignore_port
            && old.iter().zip(hosts).all(|(old, new)| Arc::ptr_eq(old, new) || old.domains == new.domains);
        same.then(|| self.table.hosts.clone())
    }

    /// Which of these virtual hosts are known.
    pub(super) fn hosts(&self, encoded: &[&[u8]]) -> Known<'a, VirtualHost> {
        Known::new(&self.hosts, &self.table.virtual_hosts, encoded)
    }
}

impl<'a> Known<'a, VirtualHost> {
    /// The virtual host of that name, if it has changed in nothing but its routes; and which of these are known.
    pub(super) fn routes_of(
        &self,
        name: &str,
        rest: &[u8],
        encoded: &[&[u8]],
    ) -> Option<(&'a VirtualHost, Known<'a, Route>)> {
        let (bytes, host) = self.changed.iter().find(|(_, host)| *host.name == *name)?;
        let (old_rest, old) = take_entries(bytes, ROUTES)?;
        (old_rest == rest && old.len() == host.routes.len())
            .then(|| (&***host, Known::new(&old, &host.routes, encoded)))
    }
}

/// What an earlier version's entries were compiled to, by their bytes.
///
/// Of a large list little changes at a time: what is the same at the front and at the back is found by comparing
/// bytes in order, and only what is between by their hash.
pub(super) struct Known<'a, T> {
    front: &'a [Arc<T>],
    back: &'a [Arc<T>],
    /// The position of the first of `back` in the new list.
    back_begins: usize,
    /// The earlier entries between front and back, with what they were compiled to.
    changed: Vec<(&'a [u8], &'a Arc<T>)>,
    by_bytes: HashMap<&'a [u8], &'a Arc<T>, foldhash::fast::RandomState>,
}

impl<'a, T> Known<'a, T> {
    /// `made[i]` was compiled from `old[i]`. Cost: a comparison of all bytes.
    fn new(old: &[&'a [u8]], made: &'a [Arc<T>], new: &[&[u8]]) -> Self {
        let front = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        let rests = old[front..].iter().rev().zip(new[front..].iter().rev());
        let back = rests.take_while(|(old, new)| old == new).count();
        let between = front..old.len() - back;
        let changed: Vec<_> = old[between.clone()].iter().copied().zip(&made[between]).collect();
        let nothing_new = new.len() == front + back;
        Self {
            front: &made[..front],
            back: &made[made.len() - back..],
            back_begins: new.len() - back,
            by_bytes: if nothing_new { HashMap::default() } else { changed.iter().copied().collect() },
            changed,
        }
    }

    /// What these bytes, at that place in the new list, were compiled to before.
    pub(super) fn get(&self, index: usize, bytes: &[u8]) -> Option<&'a Arc<T>> {
        if let Some(same) = self.front.get(index) {
            return Some(same);
        }
        match index.checked_sub(self.back_begins) {
            Some(index) => self.back.get(index),
            None => self.by_bytes.get(bytes).copied(),
        }
    }
}
