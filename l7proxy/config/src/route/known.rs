//! What an earlier version of a table was compiled from, to share what has not changed.

use std::collections::HashMap;
use std::ops::Range;
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

    /// What has changed with these virtual hosts.
    pub(super) fn hosts(&self, encoded: &[&[u8]]) -> Change<'a, VirtualHost> {
        Change::new(&self.hosts, encoded, |changed| self.table.virtual_hosts[changed].iter())
    }

    /// The virtual hosts before.
    pub(super) fn virtual_hosts(&self) -> &'a [Arc<VirtualHost>] {
        &self.table.virtual_hosts
    }
}

impl<'a> Change<'a, VirtualHost> {
    /// The virtual host of that name, if it has changed in nothing but its routes; and what has changed of these.
    pub(super) fn routes_of(
        &self,
        name: &str,
        rest: &[u8],
        encoded: &[&[u8]],
    ) -> Option<(&'a VirtualHost, Change<'a, Route>)> {
        let (bytes, host) = self.changed.iter().find(|(_, host)| *host.name == *name)?;
        let (old_rest, old) = take_entries(bytes, ROUTES)?;
        (old_rest == rest && old.len() == host.routes.len()).then(|| {
            let made = |changed: Range<usize>| host.routes.iter().skip(changed.start).take(changed.len());
            (&***host, Change::new(&old, encoded, made))
        })
    }
}

/// Where a list differs from an earlier one, and what the entries there were compiled to.
///
/// Of a large list little changes at a time: what is the same at the front and at the back is found by comparing
/// bytes in order, and only what is between by their hash.
pub(super) struct Change<'a, T> {
    /// The entries between front and back of the earlier list,
    pub(super) old: Range<usize>,
    /// and those of the new one.
    pub(super) new: Range<usize>,
    changed: Vec<(&'a [u8], &'a Arc<T>)>,
    by_bytes: HashMap<&'a [u8], &'a Arc<T>, foldhash::fast::RandomState>,
}

impl<'a, T> Change<'a, T> {
    /// `made` gives what a range of `old` was compiled to. Cost: a comparison of all bytes.
    fn new<I: Iterator<Item = &'a Arc<T>>>(
        old: &[&'a [u8]],
        new: &[&[u8]],
        made: impl FnOnce(Range<usize>) -> I,
    ) -> Self {
        let front = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        let rests = old[front..].iter().rev().zip(new[front..].iter().rev());
        let back = rests.take_while(|(old, new)| old == new).count();
        let (between, new) = (front..old.len() - back, front..new.len() - back);
        let changed: Vec<_> = old[between.clone()].iter().copied().zip(made(between.clone())).collect();
        Self {
            old: between,
            by_bytes: if new.is_empty() { HashMap::default() } else { changed.iter().copied().collect() },
            new,
            changed,
        }
    }

    /// Of a list without an earlier one.
    pub(super) fn all(length: usize) -> Self {
        Self { old: 0..0, new: 0..length, changed: Vec::new(), by_bytes: HashMap::default() }
    }

    /// What these bytes, between front and back, were compiled to before.
    pub(super) fn known(&self, bytes: &[u8]) -> Option<&'a Arc<T>> {
        self.by_bytes.get(bytes).copied()
    }
}
