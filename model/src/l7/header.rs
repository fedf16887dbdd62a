//! Which changes of headers and hosts a proxy carries out. It refuses any other, and with it the whole table
//! of routes that holds it, so every room asks here before it passes one on.

use http::uri::Authority;

/// Headers of the proxy's own: what they say is about a connection, or about where a message ends and where
/// it goes. In lower case.
pub const OWN_HEADERS: [&str; 7] =
    ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"];

/// Bytes of a header name, as Gateway API bounds them.
const LONGEST_NAME: usize = 256;

/// Checks a header name (a token of RFC 9110, 5.6.2). The error is what is wrong, to be put behind the name.
pub fn check_header_name(name: &str) -> Result<(), &'static str> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err("is not a header name; use letters, digits and '-'");
    }
    if name.len() > LONGEST_NAME {
        return Err("is longer than the 256 bytes of a header name; use a shorter one");
    }
    Ok(())
}

/// Checks that routes may set, add to and remove this header, whose name is in lower case or not.
pub fn check_changed_header(name: &str) -> Result<(), &'static str> {
    check_header_name(name)?;
    if name.eq_ignore_ascii_case("host") {
        return Err("cannot be changed among the headers; use a URL rewrite for the host");
    }
    if OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        return Err("cannot be changed: the proxy makes its own for each connection; take it out");
    }
    Ok(())
}

/// Checks the value of a header: a tab, or bytes that are no control characters.
pub fn check_header_value(value: &str) -> Result<(), &'static str> {
    if value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) {
        Ok(())
    } else {
        Err("has control characters, which no header may; take them out")
    }
}

/// Checks that a request can be sent to this host: `host` or `host:port` of RFC 3986, 3.2, without a user.
pub fn check_host(host: &str) -> Result<(), &'static str> {
    match host.parse::<Authority>() {
        Ok(authority) if !authority.as_str().contains('@') => Ok(()),
        _ => Err("is not a host; write a name such as app.example.com, with a port or without"),
    }
}

#[cfg(test)]
mod tests {
    use super::{OWN_HEADERS, check_changed_header, check_header_name, check_header_value, check_host};

    #[test]
    fn headers_of_connections_cannot_be_changed_in_any_spelling() {
        for name in OWN_HEADERS {
            assert!(check_changed_header(name).is_err(), "{name}");
            assert!(check_changed_header(&name.to_ascii_uppercase()).is_err(), "{name}");
        }
        for name in ["x-a", "Cookie", "x-forwarded-host", "te2"] {
            assert_eq!(check_changed_header(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_cannot_stand_in_a_message_is_refused() {
        for name in ["", ":path", "a b", "a:", "\u{e4}", "a\n", &"a".repeat(257)] {
            assert!(check_header_name(name).is_err(), "{name:?}");
            assert!(check_changed_header(name).is_err(), "{name:?}");
        }
        for value in ["a\r\nb", "\0", "\u{7f}"] {
            assert!(check_header_value(value).is_err(), "{value:?}");
        }
        for value in ["", "a b\tc", "\u{e4}", "%"] {
            assert_eq!(check_header_value(value), Ok(()), "{value:?}");
        }
        for host in ["", "shop.example.com/", "a b", "user@a.test", "a.test:80:80", "\u{e4}.test", "a%b"] {
            assert!(check_host(host).is_err(), "{host:?}");
        }
        for host in ["a.test", "a_b.test:8080", "192.0.2.1", "[2001:db8::1]:80"] {
            assert_eq!(check_host(host), Ok(()), "{host:?}");
        }
    }
}
