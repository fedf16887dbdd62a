//! The mesh as Envoy resources, served over delta ADS.
