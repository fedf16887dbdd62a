use std::collections::HashMap;

use proptest::proptest;
use prost::Message;

use super::{canonical, is_plain};
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

/// A table of hosts with one route each; the second host has a map where that is wanted.
fn table(paths: &[&str], with_map: bool) -> Any {
    let host = |(number, path): (usize, &&str)| crate::route::VirtualHost {
        name: format!("host-{number}"),
        domains: vec![format!("{number}.example")],
        routes: vec![crate::route::Route {
            name: (*path).to_owned(),
            metadata: (with_map && number == 1).then(|| core::Metadata {
                filter_metadata: HashMap::from([("a".to_owned(), Struct::default())]),
                ..Default::default()
            }),
            ..Default::default()
        }],
        ..Default::default()
    };
    let hosts = paths.iter().enumerate().map(host).collect();
    any(&crate::route::RouteConfiguration { virtual_hosts: hosts, ..Default::default() })
}

#[test]
fn a_map_is_found_wherever_the_change_is() {
    let before = table(&["a", "b", "c"], false);
    assert!(is_plain(&before, None));
    for paths in
        [&["a", "b", "c"][..], &["a", "x", "c"], &["x", "b", "c"], &["a", "b"], &["a", "b", "c", "d"], &[]]
    {
        assert!(is_plain(&table(paths, false), Some(&before)), "{paths:?}");
        assert_eq!(is_plain(&table(paths, true), Some(&before)), paths.len() < 2, "{paths:?} with a map");
    }
}

proptest! {
    #[test]
    fn an_earlier_version_makes_no_difference(
        old in proptest::collection::vec(0_u8..3, 0..6),
        new in proptest::collection::vec(0_u8..3, 0..6),
        with_map in proptest::bool::ANY,
    ) {
        let text = |numbers: &[u8]| numbers.iter().map(|n| "x".repeat(usize::from(*n))).collect::<Vec<_>>();
        let (old, new) = (text(&old), text(&new));
        let table = |paths: &[String], with_map| {
            table(&paths.iter().map(String::as_str).collect::<Vec<_>>(), with_map)
        };
        let (old, new) = (table(&old, false), table(&new, with_map));
        proptest::prop_assert_eq!(is_plain(&new, Some(&old)), is_plain(&new, None));
    }

    #[test]
    fn random_bytes_never_panic_and_stay_what_they_were(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
    ) {
        let garbage = Any { type_url: type_urls::LISTENER.into(), value: bytes };
        let read = |any: &Any| crate::listener::Listener::decode(any.value.as_slice()).ok();
        assert_eq!(read(&canonical(&garbage)), read(&garbage));
    }
}
