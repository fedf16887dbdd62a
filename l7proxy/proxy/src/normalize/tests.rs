use std::borrow::Cow;

use mesh_l7proxy_config::http_manager::{EscapedSlashes, PathRules};

use super::{Canonical, canonical};

const ALL: PathRules =
    PathRules { normalize: true, merge_slashes: true, escaped_slashes: EscapedSlashes::Keep };

fn check(path: &str, rules: PathRules, expected: &str) {
    assert_eq!(canonical(path, rules), Canonical::Path(expected.into()), "{path}");
}

#[test]
fn paths_get_one_form() {
    for (path, expected) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a//b///c", "/a/b/c"),
        ("/a/./b/../c", "/a/c"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/../../a", "/a"),
        ("/a/%2e%2E/b", "/b"),
        ("/%41%7e%2d", "/A~-"),
        ("/a%20b%3fc", "/a%20b%3Fc"),
        ("/a\\..\\b", "/b"),
        ("/a/..;x=y/b", "/b"),
        ("/a/...", "/a/..."),
        ("/a/.b", "/a/.b"),
        ("/a%2fb", "/a%2Fb"),
    ] {
        check(path, ALL, expected);
    }
}

#[test]
fn normal_paths_are_not_copied() {
    assert!(matches!(canonical("/a/b.c/d", ALL), Canonical::Path(Cow::Borrowed(_))));
}

#[test]
fn the_form_is_final() {
    for path in ["/a/./%2e/b//c/%41", "/a/%2f../b", "/..;/..;a/x", "/%25%32%66"] {
        let Canonical::Path(once) = canonical(path, ALL) else { panic!("{path}") };
        check(&once, ALL, &once);
    }
}

#[test]
fn broken_escapes_are_refused() {
    for path in ["/%", "/%2", "/%zz", "/a%00b", "/%+1"] {
        assert_eq!(canonical(path, ALL), Canonical::Refused, "{path}");
    }
}

#[test]
fn nothing_changes_without_rules() {
    let none = PathRules { normalize: false, merge_slashes: false, escaped_slashes: EscapedSlashes::Keep };
    for path in ["/a//b", "/a/../b", "/%2f%41", "/a\\b"] {
        check(path, none, path);
    }
}

#[test]
fn escaped_slashes_follow_their_rule() {
    let rules = |escaped_slashes| PathRules { escaped_slashes, ..ALL };
    assert_eq!(canonical("/a%5cb", rules(EscapedSlashes::Reject)), Canonical::Refused);
    check("/a%2F%2e%2e%5Cb", rules(EscapedSlashes::Decode), "/b");
    assert_eq!(
        canonical("/a%2Fb", rules(EscapedSlashes::Redirect)),
        Canonical::RedirectTo("/a/b".to_owned())
    );
    check("/a/./b", rules(EscapedSlashes::Redirect), "/a/b");
}
