//! Small messages that many resources are made of.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_xds_proto::{self as proto, BoolValue, UInt32Value, core, matcher};

/// "Ask over the stream this came on."
pub(super) fn ads() -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        ..Default::default()
    }
}

pub(super) fn duration(duration: Duration) -> Option<proto::Duration> {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    // Below a second the nanoseconds always fit.
    let nanos = i32::try_from(duration.subsec_nanos()).unwrap_or_default();
    Some(proto::Duration { seconds, nanos })
}

pub(super) fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

pub(super) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(super) fn address(address: SocketAddr) -> core::Address {
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            protocol: core::socket_address::Protocol::Tcp.into(),
            address: address.ip().to_string(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(address.port().into())),
            ..Default::default()
        })),
    }
}

/// An expression that has to match all of a text.
pub(super) fn regex(regex: impl Into<String>) -> matcher::RegexMatcher {
    matcher::RegexMatcher { regex: regex.into(), engine_type: None }
}

/// `text` as an expression that matches just that, in the syntax that RE2 and the regex crate share.
pub(super) fn regex_escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
