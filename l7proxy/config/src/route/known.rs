//! What an earlier version of a table was compiled from, to share what has not changed.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use mesh_xds_proto::{Difference, Field, Fields, take_entries};

use super::compile::{ROUTES, VIRTUAL_HOSTS};
use super::hosts::HostIndex;
use super::{Route, RouteTable, VirtualHost};

/// The field number of a virtual host's name.
const NAME: u64 = 1;

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
    pub(super) fn hosts<'n>(&self, encoded: &[&'n [u8]]) -> Change<'a, 'n, VirtualHost> {
        let old = &self.hosts;
        let front = old.iter().zip(encoded).take_while(|(old, new)| old == new).count();
        let rests = old[front..].iter().rev().zip(encoded[front..].iter().rev());
        let back = rests.take_while(|(old, new)| old == new).count();
        let between = front..old.len() - back;
        let new = encoded[front..encoded.len() - back].to_vec();
        Change::new(front, &old[between.clone()], new, &self.table.virtual_hosts[between])
    }

    /// The virtual hosts before.
    pub(super) fn virtual_hosts(&self) -> &'a [Arc<VirtualHost>] {
        &self.table.virtual_hosts
    }
}

/// Where a list differs from an earlier one, and what the entries there were compiled to.
///
/// Of a large list little changes at a time: what is the same at the front and at the back is found by comparing
/// bytes in order, and only what is between by their hash.
pub(super) struct Change<'a, 'n, T> {
    /// The entries between front and back of the earlier list,
    pub(super) old: Range<usize>,
    /// and those of the new one.
    new: Vec<&'n [u8]>,
    changed: Vec<(&'a [u8], &'a Arc<T>)>,
    by_bytes: HashMap<&'a [u8], &'a Arc<T>, foldhash::fast::RandomState>,
}

impl<'a, 'n, T> Change<'a, 'n, T> {
    /// `old`, which `made` was compiled from, is behind as many in front as `new`.
    fn new(
        front: usize,
        old: &[&'a [u8]],
        new: Vec<&'n [u8]>,
        made: impl IntoIterator<Item = &'a Arc<T>>,
    ) -> Self {
        let changed: Vec<_> = old.iter().copied().zip(made).collect();
        Self {
            old: front..front + old.len(),
            by_bytes: if new.is_empty() { HashMap::default() } else { changed.iter().copied().collect() },
            new,
            changed,
        }
    }

    /// Of a list without an earlier one.
    pub(super) fn all(new: Vec<&'n [u8]>) -> Self {
        Self { old: 0..0, new, changed: Vec::new(), by_bytes: HashMap::default() }
    }

    /// The new entries between front and back: their positions, bytes, and what those were compiled to before.
    pub(super) fn entries(&self) -> impl ExactSizeIterator<Item = (usize, &'n [u8], Option<&'a Arc<T>>)> {
        let known = |(position, bytes): (usize, &&'n [u8])| {
            (self.old.start + position, *bytes, self.by_bytes.get(*bytes).copied())
        };
        self.new.iter().enumerate().map(known)
    }
}

impl<'a> Change<'a, '_, VirtualHost> {
    /// The virtual host of the same name, if it has changed in nothing but its routes, and what has changed of these.
    /// Cost: a comparison of its bytes, and a step for each route in front of the change.
    pub(super) fn routes_of<'n>(&self, bytes: &'n [u8]) -> Option<(&'a VirtualHost, Change<'a, 'n, Route>)> {
        let name = Fields(bytes).map_while(|field| field).find(|field| field.number() == NAME)?.payload?;
        let (old, host) = self.changed.iter().find(|(_, host)| host.name.as_bytes() == name)?;
        let difference = Difference::between(old, bytes)?;
        let (old, new) = (routes_alone(&difference.old)?, routes_alone(&difference.new)?);
        let same = Fields(&bytes[..difference.front]).flatten();
        let front = same.filter(|field| field.number() == u64::from(ROUTES)).count();
        let made = host.routes.iter().skip(front).take(old.len());
        Some((host, Change::new(front, &old, new, made)))
    }
}

/// The routes among these fields, if they are nothing else.
fn routes_alone<'b>(fields: &[Field<'b>]) -> Option<Vec<&'b [u8]>> {
    let route = |field: &Field<'b>| field.payload.filter(|_| field.number() == u64::from(ROUTES));
    fields.iter().map(route).collect()
}
