//! The last good resources as bytes, for a successor process.

use mesh_xds_proto::{Message, discovery, type_urls};

use super::ConfigStore;
use crate::{NamedResource, Rejected};

/// The bytes given to [`ConfigStore::import`] were not written by [`ConfigStore::export`].
#[derive(Debug, thiserror::Error)]
#[error("saved configuration breaks off or is damaged at byte {offset}")]
pub struct ImportError {
    /// Where reading stopped.
    pub offset: usize,
}

impl ConfigStore {
    /// The last good resources with their keys, as length-delimited
    /// `envoy.service.discovery.v3.Resource`, dependencies first. For memory only, never for a file.
    pub fn export(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for known in type_urls::IN_ORDER {
            for (name, raw) in self.raw.get(known).into_iter().flatten() {
                let resource = discovery::Resource {
                    name: name.clone(),
                    version: raw.version.clone(),
                    resource: Some(raw.body.clone()),
                    ..discovery::Resource::default()
                };
                resource.encode_length_delimited(&mut out).expect("a Vec grows as needed");
            }
        }
        out
    }

    /// Takes what [`ConfigStore::export`] gave. Errors when the framing is damaged; what was read before
    /// that stays.
    pub fn import(&mut self, saved: &[u8]) -> Result<Vec<Rejected>, ImportError> {
        let mut rest = saved;
        let mut rejected = Vec::new();
        while !rest.is_empty() {
            let damaged = ImportError { offset: saved.len() - rest.len() };
            let resource = match discovery::Resource::decode_length_delimited(&mut rest) {
                Ok(discovery::Resource { name, version, resource: Some(body), .. }) => {
                    NamedResource { name, version, body }
                }
                Ok(_) | Err(_) => return Err(damaged),
            };
            let type_url = resource.body.type_url.clone();
            rejected.extend(self.apply(&type_url, vec![resource], &[]));
        }
        Ok(rejected)
    }
}
