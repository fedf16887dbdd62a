//! Nodes. What they have is written by programs; an address or a range that is none is the reader's to tell.

use crate::CiliumNode;
use crate::core::Node;

use super::{Check, Issues};

impl Check for Node {
    fn check(&self, _: &mut Issues<'_>) {}
}

impl Check for CiliumNode {
    fn check(&self, _: &mut Issues<'_>) {}
}
