use std::time::Duration;

use super::parse_go;

#[test]
fn go_durations_are_read_as_go_reads_them() {
    let cases = [
        ("0", Duration::ZERO),
        ("0s", Duration::ZERO),
        ("90s", Duration::from_secs(90)),
        ("1m30s", Duration::from_secs(90)),
        ("1.5h", Duration::from_secs(5400)),
        (".5s", Duration::from_millis(500)),
        ("1.s", Duration::from_secs(1)),
        ("250ms", Duration::from_millis(250)),
        ("+3us", Duration::from_micros(3)),
        ("7\u{b5}s", Duration::from_micros(7)),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_go(text), Some(expected), "{text}");
    }
}

#[test]
fn what_go_refuses_or_is_negative_is_no_duration() {
    for text in ["", "1", "s", ".s", "-1s", "1d", "1 s", "1s ", "99999999999999999999s", "9999999h", "1e3s"] {
        assert_eq!(parse_go(text), None, "{text}");
    }
}
