//! What every part of the translation looks things up in.

use mesh_model::secret::CertificateIndex;
use mesh_model::service::ServiceIndex;

use crate::grants::Grants;
use crate::namespaces::Namespaces;

/// Indexes over the input.
pub(crate) struct Context<'a> {
    pub(crate) services: &'a ServiceIndex,
    pub(crate) certificates: &'a CertificateIndex,
    pub(crate) grants: Grants<'a>,
    pub(crate) namespaces: Namespaces<'a>,
}
