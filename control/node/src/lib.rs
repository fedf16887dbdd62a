//! Devices, routes and rules of this node.
