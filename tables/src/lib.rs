//! Transactional in-memory tables.
