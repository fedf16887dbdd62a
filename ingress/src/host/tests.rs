use mesh_model::Hostname;

use super::{covers, narrower, parse};

fn host(text: &str) -> Hostname {
    text.parse().expect("a host name")
}

#[test]
fn a_wildcard_stands_for_exactly_one_label() {
    let cases = [
        ("*", "a.example", true),
        ("*", "*.example", true),
        ("*.example", "a.example", true),
        ("*.example", "a.b.example", false),
        ("*.example", "example", false),
        ("*.example", "*.example", true),
        ("*.example", "*.b.example", false),
        ("a.example", "a.example", true),
        ("a.example", "*.example", false),
    ];
    for (outer, inner, expected) in cases {
        assert_eq!(covers(&host(outer), &host(inner)), expected, "{outer} covers {inner}");
    }
}

#[test]
fn the_narrower_of_two_hosts_is_the_covered_one() {
    assert_eq!(narrower(&host("*.example"), &host("a.example")), Some(host("a.example")));
    assert_eq!(narrower(&host("a.example"), &host("*")), Some(host("a.example")));
    assert_eq!(narrower(&host("a.example"), &host("b.example")), None);
}

#[test]
fn addresses_are_no_hosts() {
    for text in ["192.0.2.1", "2001:db8::1", "a..b"] {
        assert!(parse(text).is_err(), "{text}");
    }
}
