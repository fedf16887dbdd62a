//! The decisions of the kernel programs, as plain functions.
