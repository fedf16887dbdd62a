//! Kubernetes objects from a watched folder.
