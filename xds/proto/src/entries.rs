//! Large messages on the wire, without decoding or copying what is large in them.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::fields::Fields;
use crate::{Any, discovery};

/// Takes all entries of the length-delimited field `number` out of an encoded message: what is left, and the
/// entries in order, still encoded. `None`: malformed.
///
/// For messages such as route tables, of which little changes at a time: entries can be compared and shared
/// without decoding them. Cost: a look at each top-level field.
#[must_use]
pub fn take_entries(message: &[u8], number: u32) -> Option<(Vec<u8>, Vec<&[u8]>)> {
    let mut rest = Vec::new();
    let mut entries = Vec::new();
    for field in Fields(message) {
        let field = field?;
        match field.payload {
            Some(entry) if field.number() == u64::from(number) => entries.push(entry),
            _ => rest.extend_from_slice(field.whole),
        }
    }
    Some((rest, entries))
}

/// What stands before the value of `body` in a length-delimited `envoy.service.discovery.v3.Resource`; nothing
/// stands after it.
#[must_use]
pub fn resource_prefix(name: &str, version: &str, body: &Any) -> Vec<u8> {
    /// `Resource.resource` and `Any.value`.
    const FIELD: u32 = 2;
    let length = |bytes: usize| bytes as u64;
    let resource =
        discovery::Resource { name: name.to_owned(), version: version.to_owned(), ..Default::default() };
    let mut any = Any { type_url: body.type_url.clone(), value: Vec::new() }.encode_to_vec();
    encode_key(FIELD, WireType::LengthDelimited, &mut any);
    encode_varint(length(body.value.len()), &mut any);
    let whole_any = length(any.len() + body.value.len());
    let mut prefix = Vec::new();
    let key_and_length = 1 + encoded_len_varint(whole_any);
    let whole = resource.encoded_len() + key_and_length + any.len() + body.value.len();
    encode_varint(length(whole), &mut prefix);
    resource.encode(&mut prefix).expect("a Vec grows");
    encode_key(FIELD, WireType::LengthDelimited, &mut prefix);
    encode_varint(whole_any, &mut prefix);
    prefix.extend_from_slice(&any);
    prefix
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::{resource_prefix, take_entries};
    use crate::route::{RouteConfiguration, VirtualHost};
    use crate::{Any, discovery};

    #[test]
    fn prefix_and_value_are_a_resource() {
        for bytes in [0, 1, 200, 70_000] {
            let body = Any { type_url: "type.googleapis.com/a.B".to_owned(), value: vec![7; bytes] };
            let mut written = resource_prefix("shop/web", "12ab", &body);
            written.extend_from_slice(&body.value);
            let mut rest = written.as_slice();
            let read = discovery::Resource::decode_length_delimited(&mut rest).expect("well formed");
            assert!(rest.is_empty());
            assert_eq!((read.name.as_str(), read.version.as_str()), ("shop/web", "12ab"));
            assert_eq!(read.resource, Some(body));
        }
    }

    fn host(name: &str) -> VirtualHost {
        VirtualHost { name: name.to_owned(), domains: vec!["*".to_owned()], ..Default::default() }
    }

    #[test]
    fn entries_and_the_rest_together_are_the_message() {
        let whole = RouteConfiguration {
            name: "table".to_owned(),
            virtual_hosts: vec![host("a"), host("b")],
            ignore_port_in_host_matching: true,
            ..Default::default()
        };
        let bytes = whole.encode_to_vec();
        let (rest, entries) = take_entries(&bytes, 2).expect("well formed");
        let mut again = RouteConfiguration::decode(rest.as_slice()).expect("well formed");
        assert!(again.virtual_hosts.is_empty());
        again.virtual_hosts =
            entries.iter().map(|entry| VirtualHost::decode(*entry).expect("well formed")).collect();
        assert_eq!(again, whole);
    }

    #[test]
    fn what_breaks_off_is_malformed() {
        let bytes =
            RouteConfiguration { virtual_hosts: vec![host("a")], ..Default::default() }.encode_to_vec();
        for length in 1..bytes.len() {
            assert_eq!(take_entries(&bytes[..length], 2), None, "{length} bytes");
        }
    }
}
