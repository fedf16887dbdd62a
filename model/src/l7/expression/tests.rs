use super::{EXPRESSION_SIZE_LIMIT, check_expression, expression_builder, parse, size};

#[test]
fn expressions_are_good_when_they_can_match_whole_values() {
    for text in ["", "/v[12]/.+", r"/a/\w+/b", "(?i)get|post", "a{2,5}", "x*", "/ä", r"(?u)/\p{Greek}"] {
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
        (r"(?u)\w{500}", "compiles to more than 256 KiB"),
        // Classes hold ASCII alone, as in the proxy.
        ("/[äöü]+", "Unicode not allowed here"),
        (r"/\p{Greek}+", "Unicode not allowed here"),
        ("((a{100}){100}){100}", "compiles to more than 256 KiB"),
    ];
    for (text, reason) in cases {
        assert_eq!(check_expression(text), Err(reason.to_owned()), "{text}");
    }
}

/// An expression that is only parsed must compile.
#[test]
fn the_estimate_is_never_below_what_compiles() {
    for part in [
        "a",
        ".",
        "[a-z]",
        r"\d",
        r"\s",
        "[^/]",
        "(?:ab|cd|.)",
        "(?i)k",
        r"(?u)[\u{80}-\u{10ffff}]",
        r"(?u)\w",
        "(?iu)k",
        "(?s-u:a)",
    ] {
        for times in [1, 3, 10, 30, 100, 300, 1000] {
            let text = format!("{part}{{{times}}}");
            if size(&parse(&text).expect("an expression")) < EXPRESSION_SIZE_LIMIT / 4 {
                let whole = expression_builder(&format!("^(?:{text})$")).build();
                assert!(whole.is_ok(), "{text}");
            }
        }
    }
}
