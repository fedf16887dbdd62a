use super::Hostname;

fn host(text: &str) -> Hostname {
    text.parse().expect("a host name")
}

#[test]
fn host_names_intersect_to_the_more_specific_one() {
    let cases = [
        ("*", "a.example", Some("a.example")),
        ("*.example", "a.example", Some("a.example")),
        ("*.example", "a.b.example", Some("a.b.example")),
        ("*.example", "example", None),
        ("*.example", "aexample", None),
        ("*.example", "*.b.example", Some("*.b.example")),
        ("*.example", "*.example", Some("*.example")),
        ("a.example", "b.example", None),
        ("*.a.example", "*.b.example", None),
    ];
    for (left, right, expected) in cases {
        let expected = expected.map(host);
        assert_eq!(host(left).intersect(&host(right)), expected, "{left} with {right}");
        assert_eq!(host(right).intersect(&host(left)), expected, "{right} with {left}");
    }
}

#[test]
fn what_is_no_host_name_is_refused_with_the_reason() {
    for text in ["a..b", "-a", "a-", "a b", "*.", "a.*.b", &"x".repeat(64)] {
        assert!(text.parse::<Hostname>().is_err(), "{text}");
    }
    assert_eq!(host("A.Example"), Hostname::Exact("a.example".to_owned()));
    assert_eq!(host(""), Hostname::Any);
}
