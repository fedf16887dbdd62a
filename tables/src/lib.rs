//! Transactional in-memory tables, and the reconciler that carries a table to a target.
//!
//! Rows come in through [`Database::write`], which changes any number of tables at once; readers take a
//! [`Snapshot`] (one pointer load) and see all tables at one moment, or follow one table's changes since a
//! revision, deletions included. A [`Reconciler`] applies desired rows to a target such as a BPF map or
//! the routing table, retries what failed and prunes what nobody wants, but not before the table is
//! complete. Start reading in `database.rs`. Tasks: one per [`Reconciler::start`], named after its table.
//!
//! Not here, on purpose: interior mutability in rows, locks that readers wait for, text queries.

mod database;
mod reconcile;
mod table;

pub use database::{Change, Database, Snapshot, Transaction};
pub use reconcile::{Reconciler, ReconcilerConfig, ReconcilerHandle, ReconcilerStatus, Target, TargetError};
pub use table::{Row, Table};

#[cfg(test)]
mod tests;
