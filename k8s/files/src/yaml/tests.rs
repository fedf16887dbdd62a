use serde_json::json;

use super::{Lines, parse_json, parse_yaml};
use mesh_k8s_api::FieldPath;

const TEXT: &str = "\
# a comment
kind: Ingress
spec:
  rules:
  - host: a.example
    http:
      paths:
      - path: /
        pathType: Exact
  - {host: b.example}
";

#[test]
fn a_field_is_found_on_its_line() {
    let lines = Lines::of(TEXT);
    for (path, line) in [
        ("kind", 2),
        ("spec", 3),
        ("spec.rules[0].host", 5),
        ("spec.rules[0].http.paths[0].pathType", 9),
        ("spec.rules[0].http.paths[0].backend.service", 8),
        ("spec.rules[1].host", 10),
        ("metadata.name", 2),
    ] {
        assert_eq!(lines.find(&FieldPath::parse(path)), Some(line), "{path}");
    }
}

#[test]
fn words_that_yaml_1_1_took_for_booleans_stay_text() {
    assert_eq!(
        parse_yaml("a: on\nb: no\nc: true\nd: 12\ne: ~\n"),
        Ok(json!({"a":"on","b":"no","c":true,"d":12,"e":null}))
    );
}

#[test]
fn bad_yaml_is_an_error_with_its_line() {
    for (text, line) in
        [("a: [1,\nb: 2\n", 2), ("a: 1\na: 2\n", 2), ("host: *.foo\n", 1), ("a: 1\n\tb: 2\n", 2)]
    {
        let error = parse_yaml(text).unwrap_err();
        assert!(error.line.is_some_and(|l| l.abs_diff(line) <= 1), "{text:?}: {error:?}");
        assert!(!error.message.is_empty());
    }
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (next, previous) in ('b'..='k').zip('a'..='j') {
        let many = vec![format!("*{previous}"); 10].join(",");
        text.push_str(&format!("{next}: &{next} [{many}]\n"));
    }
    assert!(parse_yaml(&text).is_err());
    assert!(parse_yaml(&"[".repeat(100_000)).is_err());
    assert!(parse_json(&"[".repeat(100_000)).1.is_some());
}

#[test]
fn json_values_before_an_error_are_given() {
    let (values, error) = parse_json("{\"a\":1}\n{\"b\":2}\n{\"c\":\n");
    assert_eq!(values, [json!({"a":1}), json!({"b":2})]);
    assert_eq!(error.unwrap().line, Some(4));
}
