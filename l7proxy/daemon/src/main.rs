//! The proxy's processes: starter and worker.

fn main() {}
