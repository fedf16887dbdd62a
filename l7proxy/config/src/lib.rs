//! Envoy resources to compiled, immutable proxy configuration.
