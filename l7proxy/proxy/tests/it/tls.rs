//! TLS ended at the proxy.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{
    Backend, Client, Proxy, Reply, cluster, empty, endpoints, http2_client, listener, routes, send_raw,
};

const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const INSPECTOR: &str = r#"listener_filters: [ { name: tls_inspector, typed_config: {
    "@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector } } ],"#;

struct Certified {
    der: CertificateDer<'static>,
    secret: String,
}

/// A certificate for `host` as secret `name`; its key may be another one's.
fn certified(name: &str, host: &str, foreign_key: bool) -> Certified {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let key = if foreign_key { rcgen::KeyPair::generate().unwrap() } else { made.signing_key };
    let body = serde_json::json!({
        "@type": SECRET,
        "name": name,
        "tls_certificate": {
            "certificate_chain": { "inline_string": made.cert.pem() },
            "private_key": { "inline_string": key.serialize_pem() },
        },
    });
    Certified { der: made.cert.der().clone(), secret: body.to_string() }
}

fn transport(secret: &str) -> String {
    format!(
        r#"transport_socket: {{ name: tls, typed_config: {{
            "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext,
            common_tls_context: {{ alpn_protocols: [ h2, http/1.1 ], tls_certificate_sds_secret_configs: [
                {{ name: {secret}, sds_config: {{ ads: {{}} }} }} ] }} }} }},"#
    )
}

async fn dial(
    address: SocketAddr,
    host: &'static str,
    trusted: &[&Certified],
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    dial_over(TcpStream::connect(address).await?, host, trusted, alpn).await
}

async fn dial_over(
    stream: TcpStream,
    host: &'static str,
    trusted: &[&Certified],
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certified in trusted {
        roots.add(certified.der.clone()).unwrap();
    }
    use rustls::crypto::aws_lc_rs;
    let kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519];
    let provider = Arc::new(rustls::crypto::CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host).unwrap(), stream).await
}

/// Chains for `a.example`, `*.b.example` and plain HTTP, answering 201, 202 and 203.
fn three_chains(proxy: &mut Proxy) {
    let answer = |name: &str, status: u16| {
        routes(
            name,
            &format!(r#"[ {{ match: {{ prefix: "/" }}, direct_response: {{ status: {status} }} }} ]"#),
        )
    };
    let (first, second) = (transport("first"), transport("second"));
    let web = listener(
        "web",
        "127.0.0.1",
        0,
        INSPECTOR,
        &[
            ("transport_protocol: tls, server_names: [ a.example ]", &first, "one", ""),
            ("transport_protocol: tls, server_names: [ \"*.b.example\" ]", &second, "two", ""),
            ("transport_protocol: raw_buffer", "", "three", ""),
        ],
    );
    proxy.apply(&[web, answer("one", 201), answer("two", 202), answer("three", 203)]);
}

async fn status(stream: TlsStream<TcpStream>) -> u16 {
    Client::over(stream).await.get("/").await.status.as_u16()
}

#[tokio::test]
async fn server_name_chooses_certificate_and_chain() {
    let (first, second) = (certified("first", "a.example", false), certified("second", "x.b.example", false));
    let mut proxy = Proxy::start();
    three_chains(&mut proxy);
    proxy.apply(&[first.secret.clone(), second.secret.clone()]);
    let address = proxy.listen("web");
    let trusted = [&first, &second];
    assert_eq!(status(dial(address, "a.example", &trusted, &[]).await.unwrap()).await, 201);
    assert_eq!(status(dial(address, "A.EXAMPLE", &trusted, &[]).await.unwrap()).await, 201);
    assert_eq!(status(dial(address, "x.b.example", &trusted, &[]).await.unwrap()).await, 202);
    assert_eq!(Client::connect(address).await.get("/").await.status, 203);
    assert!(dial(address, "other.example", &trusted, &[]).await.is_err());
    let refused = "envoy_listener_no_filter_chain_match";
    assert_eq!(proxy.metric(refused, 1.0).await, 1.0);
}

#[tokio::test]
async fn alpn_chooses_the_protocol_and_the_newest_key_exchange_is_used() {
    let first = certified("first", "a.example", false);
    let backend = Backend::http1(|seen| {
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
        http::Response::new(crate::harness::full("secure"))
    })
    .await;
    let mut proxy = Proxy::start();
    let socket = transport("first");
    proxy.apply(&[
        cluster("backend", ""),
        endpoints("backend", &[backend.address]),
        listener("web", "127.0.0.1", 0, "", &[("", &socket, "web", "")]),
        routes("web", r#"[{ match: { prefix: "/" }, route: { cluster: backend } }]"#),
        first.secret.clone(),
    ]);
    let address = proxy.listen("web");
    let stream = dial(address, "a.example", &[&first], &["h2", "http/1.1"]).await.unwrap();
    let session = stream.get_ref().1;
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let group = session.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    let mut client = http2_client(stream).await;
    let request = Request::get("https://a.example/").body(empty()).unwrap();
    assert_eq!(Reply::of(client.send_request(request).await.unwrap()).await.unwrap().text(), "secure");
    let old = dial(address, "a.example", &[&first], &["http/1.1"]).await.unwrap();
    assert_eq!(Client::over(old).await.get("/").await.text(), "secure");
    assert!(dial(address, "a.example", &[&first], &["smtp"]).await.is_err());
}

#[tokio::test]
async fn missing_secret_refuses_its_chain_and_no_other() {
    let second = certified("second", "x.b.example", false);
    let mut proxy = Proxy::start();
    three_chains(&mut proxy);
    proxy.apply(std::slice::from_ref(&second.secret));
    let address = proxy.listen("web");
    assert!(dial(address, "a.example", &[&second], &[]).await.is_err());
    assert_eq!(status(dial(address, "x.b.example", &[&second], &[]).await.unwrap()).await, 202);
    assert_eq!(Client::connect(address).await.get("/").await.status, 203);
}

#[tokio::test]
async fn certificate_is_renewed_without_a_new_listener() {
    let (old, new) = (certified("first", "a.example", false), certified("first", "a.example", false));
    let mut proxy = Proxy::start();
    three_chains(&mut proxy);
    proxy.apply(std::slice::from_ref(&old.secret));
    let address = proxy.listen("web");
    let mut client = Client::over(dial(address, "a.example", &[&old], &[]).await.unwrap()).await;
    assert_eq!(client.get("/").await.status, 201);
    proxy.apply(std::slice::from_ref(&new.secret));
    let mut tries = 0;
    while dial(address, "a.example", &[&new], &[]).await.is_err() {
        tries += 1;
        assert!(tries < 1000, "the new certificate was never shown");
    }
    assert_eq!(client.get("/").await.status, 201, "the old connection goes on");
}

#[tokio::test]
async fn key_that_does_not_fit_is_refused_and_the_old_one_stays() {
    let (good, bad) = (certified("first", "a.example", false), certified("first", "a.example", true));
    let mut proxy = Proxy::start();
    three_chains(&mut proxy);
    proxy.apply(std::slice::from_ref(&good.secret));
    let rejected = proxy.try_apply(std::slice::from_ref(&bad.secret));
    assert_eq!(rejected[0].field, "tls_certificate.private_key");
    let address = proxy.listen("web");
    assert_eq!(status(dial(address, "a.example", &[&good], &[]).await.unwrap()).await, 201);
}

#[tokio::test]
async fn endless_hello_is_cut_off() {
    let mut proxy = Proxy::start();
    three_chains(&mut proxy);
    let address = proxy.listen("web");
    let mut stream = send_raw(address, "").await;
    use tokio::io::AsyncWriteExt;
    // Records of a handshake message that claims to be long and never ends.
    let mut record = vec![0x16, 3, 1, 0x10, 0];
    record.extend([1, 0, 0xff, 0xff].iter().chain(&[0; 4092]));
    let mut refused = false;
    for _ in 0..1000 {
        if stream.write_all(&record).await.is_err() {
            refused = true;
            break;
        }
        record[5..9].fill(0);
        tokio::task::yield_now().await;
    }
    assert!(refused || crate::harness::read_to_end(&mut stream).await.len() < 100);
}

#[tokio::test]
async fn tls_is_found_behind_a_proxy_protocol_header() {
    let mut proxy = Proxy::start();
    let a = certified("a", "a.example", false);
    let filters = INSPECTOR.replace("[", &format!("[ {},", crate::proxy_protocol::filter("")));
    let chain = (r#"transport_protocol: tls, server_names: [ a.example ]"#, &*transport("a"), "one", "");
    proxy.apply(&[
        a.secret.clone(),
        listener("web", "127.0.0.1", 0, &filters, &[chain]),
        routes("one", r#"[{ match: { prefix: "/" }, direct_response: { status: 201 } }]"#),
    ]);
    let mut stream = TcpStream::connect(proxy.listen("web")).await.unwrap();
    stream.write_all(b"PROXY TCP4 192.0.2.77 203.0.113.1 4000 443\r\n").await.unwrap();
    let stream = dial_over(stream, "a.example", &[&a], &["http/1.1"]).await.unwrap();
    assert_eq!(Client::over(stream).await.get("/").await.status.as_u16(), 201);
}
