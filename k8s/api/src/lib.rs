//! The Kubernetes, Gateway API and own custom resource types.
