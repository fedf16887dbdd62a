//! Pure: Ingress objects to mesh fragments and conditions.
