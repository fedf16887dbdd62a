use proptest::proptest;
use prost::Message;
use serde_json::{Value, json};

use super::{decode, decode_any, decode_any_value, decode_any_yaml, encode, encode_any};
use crate::{
    Any, Duration, UInt32Value, any, cluster, core, endpoint, hcm, listener, listener::filter::ConfigType,
    route, tls, type_url, type_urls,
};

const LISTENER: &str = include_str!("testdata/listener.json");

/// JSON is read, opened as envoy-types' struct, packed again and printed as it was.
fn check_round_trip<M: crate::TypeUrl>(written: &Value) -> M {
    let read = decode_any(&written.to_string()).unwrap();
    let typed: M = type_url::decode(&read).unwrap();
    assert_eq!(encode_any(&any(&typed)).unwrap(), *written);
    typed
}

/// The whole sentence a person reads.
fn check_error(written: &str, expected: &str) {
    assert_eq!(decode_any(written).unwrap_err().to_string(), expected);
}

#[test]
fn a_listener_with_nested_types_round_trips() {
    let written: Value = serde_json::from_str(LISTENER).unwrap();
    let listener: listener::Listener = check_round_trip(&written);

    let filter = &listener.filter_chains[0].filters[0];
    let Some(ConfigType::TypedConfig(config)) = &filter.config_type else { panic!("{filter:?}") };
    let manager: hcm::HttpConnectionManager = type_url::decode(config).unwrap();
    assert_eq!(manager.stat_prefix, "web");
    assert_eq!(manager.http_filters[0].name, "envoy.filters.http.router");
    let socket = listener.filter_chains[0].transport_socket.as_ref().unwrap();
    let Some(core::transport_socket::ConfigType::TypedConfig(config)) = &socket.config_type else {
        panic!("{socket:?}")
    };
    let context: tls::DownstreamTlsContext = type_url::decode(config).unwrap();
    assert_eq!(context.common_tls_context.unwrap().alpn_protocols, ["h2", "http/1.1"]);
}

#[test]
fn durations_wrappers_enums_bytes_and_wide_integers_have_their_short_forms() {
    let cluster: cluster::Cluster = check_round_trip(&json!({
        "@type": type_urls::CLUSTER,
        "name": "api",
        "type": "EDS",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "0.250s",
        "per_connection_buffer_limit_bytes": 32768,
    }));
    assert_eq!(cluster.connect_timeout, Some(Duration { seconds: 0, nanos: 250_000_000 }));
    assert_eq!(cluster.per_connection_buffer_limit_bytes, Some(UInt32Value { value: 32768 }));
    assert_eq!(cluster.lb_policy(), cluster::cluster::LbPolicy::LeastRequest);

    let secret: tls::Secret = check_round_trip(&json!({
        "@type": type_urls::SECRET,
        "name": "web",
        "generic_secret": { "secret": { "inline_bytes": "AAEC" } },
    }));
    let Some(tls::secret::Type::GenericSecret(generic)) = secret.r#type else { panic!() };
    assert_eq!(
        generic.secret.unwrap().specifier,
        Some(core::data_source::Specifier::InlineBytes(vec![0, 1, 2]))
    );
}

#[test]
fn camel_case_and_enum_numbers_are_read_too() {
    let read: cluster::Cluster = decode(r#"{"name": "api", "connectTimeout": "1s", "lbPolicy": 1}"#).unwrap();
    assert_eq!(
        encode(&read).unwrap(),
        json!({"name": "api", "connect_timeout": "1s", "lb_policy": "LEAST_REQUEST"})
    );
}

#[test]
fn an_unknown_field_is_an_error_with_path_line_and_column() {
    check_error(
        "{\n  \"@type\": \"type.googleapis.com/envoy.config.listener.v3.Listener\",\n  \"filter_chain\": []\n}",
        "filter_chain: envoy.config.listener.v3.Listener has no field filter_chain; \
         did you mean filter_chains? (line 3, column 16)",
    );
}

#[test]
fn an_error_deep_inside_nested_types_names_the_whole_path() {
    let broken = LISTENER.replace("\"codec_type\"", "\"codec_typ\"");
    assert_ne!(broken, LISTENER);
    let error = decode_any(&broken).unwrap_err();
    assert_eq!(error.path, "filter_chains[0].filters[0].typed_config.codec_typ");
    assert_eq!(
        error.message,
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager has no field \
         codec_typ; did you mean codec_type?"
    );
    assert!(error.place.is_some());
}

#[test]
fn the_path_is_whole_although_the_type_comes_last() {
    let error = decode_any(
        r#"{"listener_filters": [{"typed_config": {"mark": "x",
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.original_src.v3.OriginalSrc"}}],
            "@type": "type.googleapis.com/envoy.config.listener.v3.Listener"}"#,
    )
    .unwrap_err();
    assert_eq!(error.path, "listener_filters[0].typed_config.mark");
}

#[test]
fn an_unknown_type_is_an_error() {
    check_error(
        r#"{"@type": "type.googleapis.com/envoy.config.listener.v3.Listner"}"#,
        "envoy.config.listener.v3.Listner is not a message of this Envoy release; \
         check the spelling of @type (line 1, column 65)",
    );
}

#[test]
fn an_unknown_enum_value_is_an_error() {
    let error = decode::<cluster::Cluster>(r#"{"lb_policy": "FASTEST"}"#).unwrap_err();
    assert_eq!(error.path, "lb_policy");
    assert!(error.message.contains("FASTEST"), "{error}");
}

#[test]
fn malformed_json_is_an_error_with_line_and_column() {
    check_error("{\n  \"@type\": ", "malformed JSON (line 2, column 11)");
}

#[test]
fn trailing_text_is_an_error() {
    let error = decode::<cluster::Cluster>("{} x").unwrap_err();
    assert_eq!(error.place, Some((1, 4)));
}

#[test]
fn yaml_reads_as_json_does() {
    let read = decode_any_yaml(
        "\"@type\": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
name: web
virtual_hosts:
- name: all
  domains: ['*']
  routes:
  - match: { prefix: / }
    route: { cluster: api, timeout: 15s }
",
    )
    .unwrap();
    let routes: route::RouteConfiguration = type_url::decode(&read).unwrap();
    assert_eq!(routes.virtual_hosts[0].domains, ["*"]);
}

#[test]
fn an_error_in_yaml_names_the_path() {
    let error = decode_any_yaml(
        "\"@type\": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
virtual_hosts: [{ domain: ['*'] }]
",
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "virtual_hosts[0].domain: envoy.config.route.v3.VirtualHost has no field domain; did you mean domains?"
    );
}

#[test]
fn malformed_yaml_is_an_error_with_its_line() {
    let error = decode_any_yaml("a: 1\nb: }\n").unwrap_err();
    assert_eq!(error.message, "malformed YAML");
    assert_eq!(error.place.map(|(line, _)| line), Some(2));
}

#[test]
fn an_error_never_quotes_a_sensitive_value() {
    for broken in [
        json!({"@type": type_urls::SECRET, "tls_certificate": {"private_key": "canary 7f3a!"}}),
        json!({"@type": type_urls::SECRET, "tls_certificate": {"private_key": {"inline_bytes": "canary 7f3a!"}}}),
        json!({"@type": type_urls::SECRET, "name": {"-----BEGIN PRIVATE KEY-----": 1}}),
        json!({"@type": type_urls::SECRET, "generic_secret": {"secrets": {"a": "canary 7f3a!"}}}),
    ] {
        for error in [decode_any_value(&broken).unwrap_err(), decode_any(&broken.to_string()).unwrap_err()] {
            assert!(!error.to_string().contains("canary"), "{error}");
            assert!(!error.message.contains("PRIVATE KEY"), "{error}");
        }
    }
}

#[test]
fn an_any_of_another_release_cannot_be_printed() {
    let foreign = Any { type_url: "type.googleapis.com/envoy.v9.Thing".into(), value: vec![] };
    assert_eq!(
        encode_any(&foreign).unwrap_err().to_string(),
        "unknown type type.googleapis.com/envoy.v9.Thing"
    );
}

#[test]
fn every_resource_type_has_a_descriptor() {
    for type_url in type_urls::IN_ORDER {
        let empty = Any { type_url: type_url.into(), value: vec![] };
        assert_eq!(encode_any(&empty).unwrap(), json!({"@type": type_url}));
    }
    assert_eq!(<endpoint::ClusterLoadAssignment as crate::TypeUrl>::type_url_of(), type_urls::ENDPOINT);
}

#[test]
fn the_descriptors_are_those_of_the_linked_envoy_types() {
    let lock = include_str!("../../../../Cargo.lock");
    let linked = format!("name = \"envoy-types\"\nversion = \"{}\"", env!("ENVOY_TYPES_VERSION"));
    assert!(lock.contains(&linked), "set ENVOY_TYPES in build.rs to the version in Cargo.lock");
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    let nested = |levels: usize| {
        let mut tree = json!({ "any": true });
        (0..levels).for_each(|_| tree = json!({ "not_rule": tree.take() }));
        super::decode_value::<crate::rbac::Permission>(&tree)
    };
    assert!(nested(50).is_ok());
    // The first is JSON deep enough for serde_json and too deep for prost.
    for levels in [110, 2_000] {
        assert_eq!(nested(levels).unwrap_err().to_string(), "nested deeper than 100 levels");
    }
    let text = "[".repeat(100_000);
    assert!(decode_any(&text).is_err());
    assert!(decode_any_yaml(&text).is_err());
}

proptest! {
    #[test]
    fn random_text_never_panics(text in ".{0,200}") {
        let _ = decode_any(&text);
        let _ = decode_any_yaml(&text);
    }

    #[test]
    fn a_damaged_listener_never_panics(
        position in 0..LISTENER.len(),
        garbage in "[\"{}\\[\\],:@a-z0-9\\\\u]{0,6}",
        removed in 0_usize..12,
    ) {
        let mut bytes = LISTENER.as_bytes().to_vec();
        let end = (position + removed).min(bytes.len());
        bytes.splice(position..end, garbage.bytes());
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(read) = decode_any(&text) {
            let _ = encode_any(&read);
        }
        let _ = decode_any_yaml(&text);
    }

    #[test]
    fn random_bytes_never_panic_when_printed(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        for type_url in type_urls::IN_ORDER {
            let garbage = Any { type_url: type_url.into(), value: bytes.clone() };
            let _ = encode_any(&garbage);
            let _ = crate::redact::encode_any(&garbage);
            let _ = Any::decode(bytes.as_slice());
        }
    }
}
