//! Probe the kernel, plan, load, attach, detach.
