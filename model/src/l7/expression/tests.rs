use regex::RegexBuilder;

use super::{EXPRESSION_SIZE_LIMIT, check_expression, parse, size};

#[test]
fn expressions_are_good_when_they_can_match_whole_values() {
    for text in ["", "/v[12]/.+", r"/a/\w+/b", "(?i)get|post", "a{2,5}", "x*"] {
        assert_eq!(check_expression(text), Ok(()), "{text}");
    }
}

#[test]
fn what_is_no_expression_is_refused_with_the_reason() {
    let cases = [
        ("/a(", "unclosed group"),
        ("a)|(b", "unopened group"),
        ("*", "repetition operator missing expression"),
        // Its comment would take the bracket that makes it match the whole value.
        ("(?x)a #", "unclosed group"),
        (r"\w{500}", "compiles to more than 256 KiB"),
        ("((a{100}){100}){100}", "compiles to more than 256 KiB"),
    ];
    for (text, reason) in cases {
        assert_eq!(check_expression(text), Err(reason.to_owned()), "{text}");
    }
}

/// An expression that is only parsed must compile.
#[test]
fn the_estimate_is_never_below_what_compiles() {
    for part in
        ["a", ".", "[a-z]", r"\d", r"\s", "[^/]", "(?:ab|cd|.)", "(?i)k", r"[\u{80}-\u{10ffff}]", "(?s-u:a)"]
    {
        for times in [1, 3, 10, 30, 100, 300, 1000] {
            let text = format!("{part}{{{times}}}");
            if size(&parse(&text).expect("an expression")) < EXPRESSION_SIZE_LIMIT / 4 {
                let whole =
                    RegexBuilder::new(&format!("^(?:{text})$")).size_limit(EXPRESSION_SIZE_LIMIT).build();
                assert!(whole.is_ok(), "{text}");
            }
        }
    }
}
