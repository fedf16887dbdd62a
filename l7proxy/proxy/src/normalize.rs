//! One canonical form of a path, computed once, before anything looks at it.
//!
//! The same form is matched, logged as the route saw it, and sent upstream: nothing may match on a decoded
//! path and forward the raw one.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use mesh_l7proxy_config::http_manager::{EscapedSlashes, PathRules};

/// What comes of a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Canonical<'a> {
    /// Use this.
    Path(Cow<'a, str>),
    /// Send the client there; its path had escaped slashes.
    RedirectTo(String),
    /// 400.
    Refused,
}

/// Applies the listener's rules: escaped slashes, then RFC 3986 6.2.2 (unreserved characters decoded, dot
/// segments removed), then slashes merged. Borrows when there is nothing to do.
pub(crate) fn canonical<'a>(path: &'a str, rules: PathRules) -> Canonical<'a> {
    if !needs_work(path, rules) {
        return Canonical::Path(Cow::Borrowed(path));
    }
    let mut redirect = false;
    let mut text = Cow::Borrowed(path);
    if has_escaped_slash(path) {
        match rules.escaped_slashes {
            EscapedSlashes::Keep => {}
            EscapedSlashes::Reject => return Canonical::Refused,
            EscapedSlashes::Redirect | EscapedSlashes::Decode => {
                text = Cow::Owned(decode_slashes(path));
                redirect = rules.escaped_slashes == EscapedSlashes::Redirect;
            }
        }
    }
    if rules.normalize {
        let Some(decoded) = decode_unreserved(&text) else { return Canonical::Refused };
        text = Cow::Owned(remove_dot_segments(&decoded));
    }
    if rules.merge_slashes && text.contains("//") {
        let mut merged = String::with_capacity(text.len());
        for c in text.chars() {
            if c != '/' || !merged.ends_with('/') {
                merged.push(c);
            }
        }
        text = Cow::Owned(merged);
    }
    if redirect { Canonical::RedirectTo(text.into_owned()) } else { Canonical::Path(text) }
}

/// A cheap look that lets most paths through untouched.
fn needs_work(path: &str, rules: PathRules) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().enumerate().any(|(index, byte)| match byte {
        b'%' => rules.normalize || rules.escaped_slashes != EscapedSlashes::Keep,
        b'\\' => rules.normalize,
        b'/' => match bytes.get(index + 1) {
            Some(b'/') => rules.merge_slashes,
            Some(b'.') => rules.normalize,
            _ => false,
        },
        _ => false,
    })
}

fn escaped_slash(rest: &[u8]) -> bool {
    matches!(rest, [b'%', b'2', b'f' | b'F', ..] | [b'%', b'5', b'c' | b'C', ..])
}

fn has_escaped_slash(path: &str) -> bool {
    (0..path.len()).any(|index| escaped_slash(&path.as_bytes()[index..]))
}

fn decode_slashes(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    let mut skip = 0;
    for (index, c) in path.char_indices() {
        if skip > 0 {
            skip -= 1;
        } else if escaped_slash(&bytes[index..]) {
            out.push(if bytes[index + 1] == b'2' { '/' } else { '\\' });
            skip = 2;
        } else {
            out.push(c);
        }
    }
    out
}

/// `%XX` of letters, digits, `-._~` decoded, other escapes in upper case, backslashes turned. None: an escape
/// that is none, or an escaped NUL.
fn decode_unreserved(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => {
                let high = rest.next()?.to_digit(16)?;
                let low = rest.next()?.to_digit(16)?;
                let byte = u8::try_from(high * 16 + low).ok()?;
                match byte {
                    0 => return None,
                    b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
                    byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
                    byte => out.push_str(&format!("%{byte:02X}")),
                }
            }
            '\\' => out.push('/'),
            c => out.push(c),
        }
    }
    Some(out)
}

/// RFC 3986, 5.2.4. Segments such as `..;a=b`, which some servers read as `..`, count as what those read.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment.split(';').next() {
            Some(".") => {
                if last {
                    kept.push("");
                }
            }
            Some("..") => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() { "/".to_owned() } else { out }
}
