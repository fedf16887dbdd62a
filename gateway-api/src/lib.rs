//! Pure: Gateway API objects to mesh fragments and conditions.
