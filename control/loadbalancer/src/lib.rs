//! Services and addresses to kernel entries.
