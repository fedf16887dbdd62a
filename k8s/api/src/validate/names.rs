//! Names, hosts and ports as the API machinery checks them.

use std::net::IpAddr;

use super::Issues;

/// RFC 1123 label: at most 63 of `a-z 0-9 -`, no `-` at either end.
pub(super) fn label(text: &str) -> Result<(), String> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() {
        Err("is empty".to_owned())
    } else if text.len() > 63 {
        Err(format!("{text:?} is longer than 63 characters"))
    } else if !text.bytes().all(inner) {
        Err(format!("{text:?} has characters other than small letters, digits and `-`"))
    } else if text.starts_with('-') || text.ends_with('-') {
        Err(format!("{text:?} starts or ends with `-`"))
    } else {
        Ok(())
    }
}

/// RFC 1123 subdomain: labels with dots between them, at most 253 characters.
pub(super) fn subdomain(text: &str) -> Result<(), String> {
    if text.len() > 253 {
        return Err("is longer than 253 characters".to_owned());
    }
    text.split('.').try_for_each(|part| {
        label(part).map_err(|problem| {
            if part == text { problem } else { format!("{text:?}: a part between dots {problem}") }
        })
    })
}

/// IANA service name, as ports are named: at most 15 of `a-z 0-9 -`, a letter among them.
pub(super) fn port_name(text: &str) -> Result<(), String> {
    label(text)?;
    if text.len() > 15 {
        return Err(format!("{text:?} is longer than 15 characters"));
    }
    if text.contains("--") || !text.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(format!("{text:?} has `--` in it or no letter"));
    }
    Ok(())
}

/// A host of a rule or listener at `path`: a name or a wildcard of one label; empty means every host.
pub(super) fn host(issues: &mut Issues<'_>, path: &str, text: &str) {
    if text.is_empty() {
        return;
    }
    const FIX: &str =
        "write a name such as `shop.example.com` or, in quotes, `\"*.example.com\"`; without a port";
    if text.parse::<IpAddr>().is_ok() {
        return issues.error(path, format!("{text:?} is an address, not a name"), FIX);
    }
    let name = text.strip_prefix("*.").unwrap_or(text);
    if let Err(problem) = subdomain(name) {
        issues.error(path, problem, FIX);
    }
}

/// A port number.
pub(super) fn port(issues: &mut Issues<'_>, path: &str, number: i32) {
    if !(1..=65535).contains(&number) {
        issues.error(path, format!("{number} is no port"), "write a number from 1 to 65535");
    }
}

/// What is wrong with a path that routes match on, in both Ingress and Gateway API.
pub(super) fn route_path(text: &str) -> Result<(), &'static str> {
    let lower = text.to_ascii_lowercase();
    if !text.starts_with('/') {
        Err("does not start with `/`")
    } else if text.contains("//") {
        Err("has `//` in it")
    } else if ["/./", "/../"].iter().any(|part| text.contains(part))
        || text.ends_with("/.")
        || text.ends_with("/..")
    {
        Err("has a `.` or `..` part in it")
    } else if lower.contains("%2f") {
        Err("has an escaped `/` in it")
    } else {
        Ok(())
    }
}

/// A name of an HTTP header: a token (RFC 9110, 5.6.2).
pub(super) fn header_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 256
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
