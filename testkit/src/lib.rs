//! Harnesses that tests share.
