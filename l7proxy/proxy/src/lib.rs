//! The data path of the proxy.
