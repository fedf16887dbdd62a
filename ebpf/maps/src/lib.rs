//! Typed handles on BPF maps.
