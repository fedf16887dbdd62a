//! Nodes and pods. What they have is written by programs, or was checked by whoever made pods of it; an address or a range that is none is the reader's to tell.

use crate::core::{Node, Pod};
use crate::{CiliumEndpoint, CiliumIdentity, CiliumNode};

use super::{Check, Issues};

impl Check for Node {
    fn check(&self, _: &mut Issues<'_>) {}
}

impl Check for CiliumNode {
    fn check(&self, _: &mut Issues<'_>) {}
}

impl Check for Pod {
    fn check(&self, _: &mut Issues<'_>) {}
}

impl Check for CiliumIdentity {
    fn check(&self, _: &mut Issues<'_>) {}
}

impl Check for CiliumEndpoint {
    fn check(&self, _: &mut Issues<'_>) {}
}
