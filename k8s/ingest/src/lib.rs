//! Pure: Kubernetes objects to intent rows.
