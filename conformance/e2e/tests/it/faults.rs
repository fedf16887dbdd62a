//! Faults under traffic, each as long as the gate has time; `cargo xtask soak` goes on for longer.

mod limits;
mod processes;
