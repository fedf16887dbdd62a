//! What an earlier version of a table was compiled from, to share what has not changed.

use std::collections::HashMap;
use std::sync::Arc;

use mesh_xds_proto::take_entries;

use super::compile::{ROUTES, VIRTUAL_HOSTS};
use super::{Route, RouteTable, VirtualHost};

type ByBytes<'a, T> = HashMap<&'a [u8], &'a Arc<T>, foldhash::fast::RandomState>;

/// A table and the bytes that it was made of, which its owner keeps anyway.
pub(crate) struct Before<'a> {
    pub(super) table: &'a RouteTable,
    hosts: ByBytes<'a, VirtualHost>,
    /// The bytes of each virtual host, by name.
    by_name: HashMap<&'a str, &'a [u8], foldhash::fast::RandomState>,
}

impl<'a> Before<'a> {
    /// `None`: `table` was not made of `bytes`. Cost: a look at each virtual host.
    pub(crate) fn new(bytes: &'a [u8], table: &'a RouteTable) -> Option<Self> {
        let (_, encoded) = take_entries(bytes, VIRTUAL_HOSTS)?;
        if encoded.len() != table.virtual_hosts.len() {
            return None;
        }
        let both = || encoded.iter().copied().zip(&table.virtual_hosts);
        Some(Self {
            table,
            hosts: both().collect(),
            by_name: both().map(|(bytes, host)| (&*host.name, bytes)).collect(),
        })
    }

    /// The virtual host that these very bytes made.
    pub(super) fn host(&self, bytes: &[u8]) -> Option<&'a Arc<VirtualHost>> {
        self.hosts.get(bytes).copied()
    }

    /// The routes of the virtual host of that name, by their bytes. `None`: there was none, or something else
    /// in it has changed that its routes may depend on.
    pub(super) fn routes_of(&self, name: &str, rest: &[u8]) -> Option<ByBytes<'a, Route>> {
        let bytes = self.by_name.get(name)?;
        let host = self.hosts.get(bytes)?;
        let (old_rest, encoded) = take_entries(bytes, ROUTES)?;
        (old_rest == rest && encoded.len() == host.routes.len())
            .then(|| encoded.into_iter().zip(&host.routes).collect())
    }
}
