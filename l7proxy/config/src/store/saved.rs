//! The last good resources as bytes, for a successor process.

use std::io;

use mesh_xds_proto::{Message, discovery, resource_prefix, type_urls};

use super::{ConfigStore, RawByType};
use crate::{NamedResource, Rejected};

/// Bytes that are written at once, at most.
const PIECE: usize = 128 * 1024;

/// The bytes given to [`ConfigStore::import`] were not written by [`Saved::write`].
#[derive(Debug, thiserror::Error)]
#[error("saved configuration breaks off or is damaged at byte {offset}")]
pub struct ImportError {
    /// Where reading stopped.
    pub offset: usize,
}

/// The last good resources of one moment with their keys, to be written down by another thread.
pub struct Saved {
    raw: RawByType,
}

impl Saved {
    /// Writes length-delimited `envoy.service.discovery.v3.Resource`, dependencies first, in pieces of at most
    /// 128 KiB. For memory only, never for a file. No copies of keys are left behind.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        for known in type_urls::IN_ORDER {
            for (name, raw) in self.raw.get(known).into_iter().flatten() {
                out.write_all(&resource_prefix(name, &raw.version, &raw.body))?;
                for piece in raw.body.value.chunks(PIECE) {
                    out.write_all(piece)?;
                }
            }
        }
        Ok(())
    }
}

impl ConfigStore {
    /// The last good resources, for [`Saved::write`]. Copies none of them.
    pub fn save(&self) -> Saved {
        Saved { raw: self.raw.clone() }
    }

    /// The same as bytes at once, for whoever holds the configuration in memory anyway.
    pub fn export(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.save().write(&mut bytes).expect("a Vec grows as needed");
        bytes
    }

    /// Takes what [`Saved::write`] wrote. Errors when the framing is damaged; what was read before
    /// that stays.
    pub fn import(&mut self, saved: &[u8]) -> Result<Vec<Rejected>, ImportError> {
        let mut rest = saved;
        let mut rejected = Vec::new();
        // All of a type at once: a listener is put together once for all its certificates.
        let mut type_url = String::new();
        let mut of_type = Vec::new();
        while !rest.is_empty() {
            let damaged = ImportError { offset: saved.len() - rest.len() };
            let resource = match discovery::Resource::decode_length_delimited(&mut rest) {
                Ok(discovery::Resource { name, version, resource: Some(body), .. }) => {
                    NamedResource { name, version, body }
                }
                Ok(_) | Err(_) => {
                    self.apply_if_any(&type_url, &mut of_type);
                    return Err(damaged);
                }
            };
            if resource.body.type_url != type_url {
                rejected.extend(self.apply_if_any(&type_url, &mut of_type));
                type_url.clone_from(&resource.body.type_url);
            }
            of_type.push(resource);
        }
        rejected.extend(self.apply_if_any(&type_url, &mut of_type));
        Ok(rejected)
    }

    fn apply_if_any(&mut self, type_url: &str, resources: &mut Vec<NamedResource>) -> Vec<Rejected> {
        if resources.is_empty() { Vec::new() } else { self.apply(type_url, std::mem::take(resources), &[]) }
    }
}
