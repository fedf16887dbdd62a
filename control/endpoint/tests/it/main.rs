//! Endpoints against the kernel, in network namespaces of their own.

mod life;
