//! Scenarios end to end.
