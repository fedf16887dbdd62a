//! Envoy's configuration as people write it: JSON or YAML with `@type`.
//!
//! Holds: text is read or refused with a short reason; what was read is printed, and read again as the same;
//! what a person may see is printed whatever is in it.

use mesh_xds_proto::{Any, canonical, json, redact};

/// The text as JSON and as YAML.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for read in [json::decode_any, json::decode_any_yaml] {
        match read(text) {
            Ok(any) => printed_and_read_again(&any),
            Err(error) => assert!(error.to_string().len() < 4096 + 2 * text.len(), "{error}"),
        }
    }
}

fn printed_and_read_again(any: &Any) {
    assert!(redact::encode_any(any).to_string().len() < 1 << 24);
    let printed = json::encode_any(any).expect("what was read can be printed");
    let again = json::decode_any_value(&printed).expect("what was printed can be read");
    let (first, second) = (canonical(any), canonical(&again));
    assert_eq!(first, canonical(&first), "the canonical form of a canonical form is another");
    assert_eq!(first.type_url, second.type_url);
    assert!(first.value == second.value, "printed and read again it is another: {printed}");
}
