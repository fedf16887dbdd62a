use serde_json::{Value, json};

use super::{REDACTED, encode_any, fingerprint};
use crate::{Any, core, json::decode_any_value, tls, type_url, type_urls};

const CANARY: &str = "canary-5d1e9b";
const CANARY_KEY: &str = "-----BEGIN PRIVATE KEY-----\ncanary-5d1e9b\n-----END PRIVATE KEY-----\n";

/// Whatever is printed holds the canary neither as text nor as base64, at any of its three offsets.
fn check_hidden(shown: &Value) {
    let text = shown.to_string();
    for offset in 0..3 {
        let padded = format!("{}{CANARY}", " ".repeat(offset));
        let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &padded);
        // The groups of four that belong to the canary alone.
        let certain = &encoded[4..16];
        assert!(!text.contains(certain), "base64 of the canary in {text}");
    }
    assert!(!text.contains(CANARY), "{text}");
}

fn check_hidden_json(written: Value) -> Value {
    let shown = encode_any(&decode_any_value(&written).unwrap());
    check_hidden(&shown);
    shown
}

fn inline(bytes: &str) -> core::DataSource {
    core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineBytes(bytes.as_bytes().to_vec())),
        ..Default::default()
    }
}

fn secret(r#type: tls::secret::Type) -> Any {
    type_url::any(&tls::Secret { name: "web".into(), r#type: Some(r#type) })
}

#[test]
fn a_private_key_shows_its_fingerprint_and_the_chain_stays() {
    let shown = encode_any(&secret(tls::secret::Type::TlsCertificate(tls::TlsCertificate {
        certificate_chain: Some(core::DataSource {
            specifier: Some(core::data_source::Specifier::InlineString("chain".into())),
            ..Default::default()
        }),
        private_key: Some(inline(CANARY_KEY)),
        password: Some(inline(CANARY)),
        ..Default::default()
    })));
    check_hidden(&shown);
    assert_eq!(
        shown,
        json!({
            "@type": type_urls::SECRET,
            "name": "web",
            "tls_certificate": {
                "certificate_chain": { "inline_string": "chain" },
                "private_key": {
                    "inline_bytes": format!("[redacted] sha256:{}", fingerprint(CANARY_KEY.as_bytes())),
                },
                "password": { "inline_bytes": "[redacted]" },
            },
        })
    );
}

#[test]
fn two_keys_have_two_fingerprints_and_one_key_has_one() {
    let shown = |key: &str| {
        encode_any(&secret(tls::secret::Type::TlsCertificate(tls::TlsCertificate {
            private_key: Some(inline(key)),
            ..Default::default()
        })))
    };
    assert_eq!(shown("one"), shown("one"));
    assert_ne!(shown("one"), shown("two"));
}

#[test]
fn session_ticket_keys_and_generic_secrets_are_hidden() {
    check_hidden(&encode_any(&secret(tls::secret::Type::SessionTicketKeys(tls::TlsSessionTicketKeys {
        keys: vec![inline(CANARY), inline(CANARY_KEY)],
    }))));
    check_hidden(&encode_any(&secret(tls::secret::Type::GenericSecret(tls::GenericSecret {
        secret: Some(inline(CANARY)),
        secrets: [("a".to_owned(), inline(CANARY))].into(),
    }))));
}

#[test]
fn a_certificate_inline_in_a_listener_is_hidden() {
    let shown = check_hidden_json(json!({
        "@type": type_urls::LISTENER,
        "filter_chains": [{ "transport_socket": { "name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": { "tls_certificates": [{
                "private_key": { "inline_string": CANARY_KEY },
                "private_key_provider": { "provider_name": "p", "typed_config": {
                    "@type": "type.googleapis.com/google.protobuf.Struct",
                    "value": { "key": CANARY, "list": [CANARY, 1] },
                }},
            }]},
            "session_ticket_keys": { "keys": [{ "inline_string": CANARY }] },
        }}}],
    }));
    let certificate = &shown["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]["tls_certificates"]
        [0];
    let key = certificate["private_key"]["inline_string"].as_str().unwrap();
    assert!(key.starts_with(REDACTED), "{key}");
    assert_eq!(
        certificate["private_key_provider"]["typed_config"]["value"]["list"],
        json!([REDACTED, REDACTED])
    );
}

#[test]
fn the_name_of_a_key_file_stays() {
    let written = json!({
        "@type": type_urls::SECRET,
        "tls_certificate": { "private_key": { "filename": "/etc/tls/tls.key" } },
    });
    assert_eq!(encode_any(&decode_any_value(&written).unwrap()), written);
}

#[test]
fn credentials_in_header_values_are_hidden_and_other_headers_stay() {
    let shown = check_hidden_json(json!({
        "@type": type_urls::ROUTE,
        "request_headers_to_add": [
            { "header": { "key": "Authorization", "value": format!("Bearer {CANARY}") } },
            { "header": { "key": "x-team", "value": "blue" } },
        ],
    }));
    assert_eq!(shown["request_headers_to_add"][0]["header"]["value"], REDACTED);
    assert_eq!(shown["request_headers_to_add"][1]["header"]["value"], "blue");
}

#[test]
fn a_private_key_is_hidden_in_whatever_field_it_was_put() {
    use base64::Engine;
    check_hidden_json(json!({
        "@type": type_urls::ROUTE,
        "name": CANARY_KEY,
        "virtual_hosts": [{ "routes": [
            { "direct_response": { "status": 200, "body": { "inline_string": CANARY_KEY } } },
            { "direct_response": { "status": 200, "body": {
                "inline_bytes": base64::prelude::BASE64_STANDARD.encode(CANARY_KEY) } } },
            { "metadata": { "filter_metadata": { "a": { "b": [CANARY_KEY] } } } },
        ]}],
    }));
}

#[test]
fn what_cannot_be_understood_is_not_shown() {
    for (type_url, error) in [
        ("type.googleapis.com/envoy.v9.Thing", "unknown type type.googleapis.com/envoy.v9.Thing"),
        (type_urls::SECRET, &*format!("malformed {}", type_urls::SECRET)),
    ] {
        let shown = encode_any(&Any { type_url: type_url.into(), value: CANARY.into() });
        assert_eq!(shown, json!({"@type": type_url, "error": error, "bytes": CANARY.len()}));
    }
}

#[test]
fn a_secret_in_an_any_in_an_any_is_hidden() {
    let mut written = secret(tls::secret::Type::TlsCertificate(tls::TlsCertificate {
        password: Some(inline(CANARY)),
        ..Default::default()
    }));
    for _ in 0..3 {
        written = type_url::any(&written);
        check_hidden(&encode_any(&written));
    }
}

#[test]
fn many_anys_in_each_other_are_told_from_an_overflow() {
    let mut any = type_url::any(&core::Address::default());
    for _ in 0..20_000 {
        let value = prost::Message::encode_to_vec(&any);
        any = Any { type_url: "type.googleapis.com/google.protobuf.Any".to_owned(), value };
        // Each level makes a copy of those below: deep enough to overflow a stack, not to take forever.
        if any.value.len() > 200_000 {
            break;
        }
    }
    let shown = encode_any(&any);
    assert!(shown["error"].as_str().unwrap().contains("has no JSON form"), "{shown}");
}
