//! Envoy's messages, and their JSON.
