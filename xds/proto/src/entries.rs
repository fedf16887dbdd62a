//! A large message without its largest field, and that field's entries as they are on the wire.

/// Takes all entries of the length-delimited field `number` out of an encoded message: what is left, and the
/// entries in order, still encoded. `None`: malformed.
///
/// For messages such as route tables, of which little changes at a time: entries can be compared and shared
/// without decoding them. Cost: a look at each top-level field.
#[must_use]
pub fn take_entries(mut message: &[u8], number: u32) -> Option<(Vec<u8>, Vec<&[u8]>)> {
    let mut rest = Vec::new();
    let mut entries = Vec::new();
    while !message.is_empty() {
        let field = message;
        let key = varint(&mut message)?;
        let mut entry = None;
        match key & 7 {
            0 => drop(varint(&mut message)?),
            1 => drop(message.split_off(..8)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let payload = message.split_off(..length)?;
                entry = (key >> 3 == u64::from(number)).then_some(payload);
            }
            5 => drop(message.split_off(..4)?),
            // Groups are in none of Envoy's messages.
            _ => return None,
        }
        match entry {
            Some(entry) => entries.push(entry),
            None => rest.extend_from_slice(&field[..field.len() - message.len()]),
        }
    }
    Some((rest, entries))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(bytes).ok()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::take_entries;
    use crate::route::{RouteConfiguration, VirtualHost};

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
