use std::collections::HashMap;

use proptest::proptest;
use prost::Message;

use super::canonical;
use crate::{Any, Struct, Value, any, core, json, struct_value::Kind, type_urls};

/// A resource with a map of messages with maps inside, twice nested in `Any`, inserted in `order`.
fn resource(order: impl Iterator<Item = u32> + Clone) -> Any {
    let fields = |order: &mut dyn Iterator<Item = u32>| -> HashMap<String, Value> {
        order.map(|n| (format!("key-{n}"), Value { kind: Some(Kind::NumberValue(f64::from(n))) })).collect()
    };
    let metadata = core::Metadata {
        filter_metadata: order
            .clone()
            .map(|n| (format!("filter-{n}"), Struct { fields: fields(&mut order.clone()) }))
            .collect(),
        typed_filter_metadata: order
            .clone()
            .map(|n| (format!("typed-{n}"), any(&Struct { fields: fields(&mut order.clone()) })))
            .collect(),
    };
    any(&crate::listener::Listener { name: "web".into(), metadata: Some(metadata), ..Default::default() })
}

#[test]
fn the_order_of_map_entries_makes_no_difference() {
    let one = resource(0..20);
    let other = resource((0..20).rev());
    assert_ne!(one, other, "two hash maps of 20 entries agreed on their order");
    assert_eq!(canonical(&one), canonical(&other));
}

#[test]
fn the_content_stays_the_same() {
    let resource = resource(0..20);
    let canonical = canonical(&resource);
    assert_eq!(canonical.value.len(), resource.value.len());
    assert_eq!(json::encode_any(&canonical).unwrap(), json::encode_any(&resource).unwrap());
}

#[test]
fn the_order_of_repeated_fields_makes_a_difference() {
    let domains = |domains: [&str; 2]| {
        any(&crate::route::RouteConfiguration {
            internal_only_headers: domains.map(str::to_owned).to_vec(),
            ..Default::default()
        })
    };
    assert_ne!(canonical(&domains(["a", "b"])), canonical(&domains(["b", "a"])));
}

#[test]
fn an_unknown_type_is_copied() {
    let foreign = Any { type_url: "type.googleapis.com/envoy.v9.Thing".into(), value: vec![1, 2, 3] };
    assert_eq!(canonical(&foreign), foreign);
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_stay_what_they_were(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
    ) {
        let garbage = Any { type_url: type_urls::LISTENER.into(), value: bytes };
        let read = |any: &Any| crate::listener::Listener::decode(any.value.as_slice()).ok();
        assert_eq!(read(&canonical(&garbage)), read(&garbage));
    }
}
