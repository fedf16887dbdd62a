//! The vocabulary that every room speaks.
