use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::config::{ControlPlane, cluster, free_address, http_manager, listener, route};
use crate::harness::{PATIENCE, Proxy, kill, poll};
use crate::http::{Answer, Connection};

/// The key as it may show up: the lines of its PEM, its bytes as hex, the middle of its base64.
fn traces(key_pem: &str, key_der: &[u8]) -> Vec<String> {
    let mut traces: Vec<String> =
        key_pem.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect();
    // The last line may be a few characters that occur anywhere.
    traces.retain(|line| line.len() >= 16);
    traces.push(key_der[8..40].iter().map(|byte| format!("{byte:02x}")).collect());
    // Base64 of base64: how bytes fields of protobuf are printed.
    traces.push(STANDARD.encode(key_pem)[80..140].to_owned());
    traces
}

/// TLS with one certificate.
fn downstream_tls(certificate: &str) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "tls_certificate_sds_secret_configs": [{
                    "name": certificate,
                    "sds_config": { "ads": {}, "resource_api_version": "V3" },
                }],
            },
        },
    })
}

fn secret(name: &str, chain: &str, key: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": name,
        "tls_certificate": {
            "certificate_chain": { "inline_string": chain },
            "private_key": { "inline_string": key },
        },
    })
}

/// A TLS listener with its certificate, and the certificate alone with another key.
fn tls_site(listen: SocketAddr, backend: SocketAddr, chain: &str, key: &str) -> Vec<Value> {
    let chains =
        json!([{ "filters": [http_manager("tls")], "transport_socket": downstream_tls("certificate") }]);
    vec![
        listener("tls", listen, chains),
        route("tls"),
        cluster("tls", backend),
        secret("certificate", chain, key),
    ]
}

/// One TLS listener for hosts that each have a certificate of their own, named like the host, and routes in
/// common. To each host its chain and key.
fn shared_tls_sites(listen: SocketAddr, backend: SocketAddr, hosts: &[(&str, &str, &str)]) -> Vec<Value> {
    let chain_of = |host: &str| {
        json!({
            "filter_chain_match": { "transport_protocol": "tls", "server_names": [host] },
            "filters": [http_manager("shared")],
            "transport_socket": downstream_tls(host),
        })
    };
    let mut shared = listener("shared", listen, hosts.iter().map(|(host, ..)| chain_of(host)).collect());
    shared["listener_filters"] = json!([{
        "name": "envoy.filters.listener.tls_inspector",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        },
    }]);
    let mut resources = vec![shared, route("shared"), cluster("shared", backend)];
    resources.extend(hosts.iter().map(|(host, chain, key)| secret(host, chain, key)));
    resources
}

/// One request over TLS, the certificate and the name `web.test` checked.
fn get_over_tls(address: SocketAddr, trusted: CertificateDer<'static>) -> std::io::Result<Answer> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session = ClientConnection::new(Arc::new(config), "web.test".try_into().unwrap()).unwrap();
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Connection::over(StreamOwned::new(session, stream)).get("/")
}

#[test]
fn tls_ends_in_a_confined_worker_and_in_its_successor() {
    let mut proxy = Proxy::start();
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let (backend, listen) = (Backend::start("over tls"), free_address());
    let certified = rcgen::generate_simple_self_signed(["web.test".to_owned()]).unwrap();
    let key = certified.signing_key.serialize_pem();
    control_plane.publish(&tls_site(listen, backend.address, &certified.cert.pem(), &key));
    assert_eq!(control_plane.rejections(), []);
    let trusted = certified.cert.der();
    assert_eq!(get_over_tls(listen, trusted.clone()).unwrap().body, "over tls");
    assert!(poll(|| proxy.status().stored_config_bytes.filter(|bytes| *bytes > 0)).is_some());

    // The key comes out of the starter's memory: nobody is there to send it again.
    drop(control_plane);
    let first = proxy.wait_for_worker(|_| true).pid;
    kill(first, Signal::KILL);
    assert_eq!(get_over_tls(listen, trusted.clone()).unwrap().body, "over tls");
    assert_ne!(proxy.wait_for_worker(|_| true).pid, first);
}

#[test]
fn private_key_shows_up_nowhere() {
    let proxy = Proxy::start_with(&["--log", "trace"]);
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let (backend, listen) = (Backend::start("secret"), free_address());
    let certified = rcgen::generate_simple_self_signed(["web.test".to_owned()]).unwrap();
    let (key_pem, key_der) = (certified.signing_key.serialize_pem(), certified.signing_key.serialize_der());
    let site = |key: &str| tls_site(listen, backend.address, &certified.cert.pem(), key);
    control_plane.publish(&site(&key_pem));
    assert_eq!(control_plane.rejections(), []);
    assert_eq!(get_over_tls(listen, certified.cert.der().clone()).unwrap().body, "secret");
    // A broken key, so that error messages have their chance too.
    control_plane.publish(&site(&key_pem.replacen(&key_pem[60..64], "####", 1)));
    let rejections = control_plane.rejections();
    assert_eq!(rejections.len(), 1, "{rejections:?}");
    assert!(poll(|| proxy.status().stored_config_bytes.filter(|bytes| *bytes > 0)).is_some());

    let mut seen = proxy.log() + &proxy.access_log() + &format!("{rejections:?}");
    for path in ["/config_dump", "/clusters", "/listeners", "/stats", "/stats/prometheus", "/server_info"] {
        seen += &proxy.admin(path).1;
    }
    seen += &serde_json::to_string(&proxy.status()).unwrap();
    assert!(seen.contains("certificate"), "the secret itself is spoken of");
    for trace in traces(&key_pem, &key_der) {
        assert!(!seen.contains(&trace), "{trace}");
    }
    let files = walk(proxy.folder.path());
    assert!(!files.is_empty());
    for file in files {
        let content = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        for trace in traces(&key_pem, &key_der) {
            assert!(!content.contains(&trace), "{trace} in {}", file.display());
        }
    }
}

#[test]
fn a_certificate_that_nothing_uses_any_more_leaves_the_proxy_and_its_stored_copy() {
    let mut proxy = Proxy::start();
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let (backend, listen) = (Backend::start("over tls"), free_address());
    let [web, other] = ["web.test", "other.test"].map(|host| {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        (host, made.cert.pem(), made.signing_key.serialize_pem(), made.cert.der().clone())
    });
    let site =
        |(host, chain, key, _): &(&'static str, String, String, _)| (*host, chain.clone(), key.clone());
    let publish = |sites: &[(&str, String, String)]| {
        let sites: Vec<_> = sites.iter().map(|(host, chain, key)| (*host, &**chain, &**key)).collect();
        control_plane.publish(&shared_tls_sites(listen, backend.address, &sites));
        assert_eq!(control_plane.rejections(), []);
    };
    let stored = |wanted: &dyn Fn(u64) -> bool| {
        let mut last = None;
        poll(|| {
            last = proxy.status().stored_config_bytes;
            last.filter(|bytes| wanted(*bytes))
        })
        .unwrap_or_else(|| panic!("{last:?} bytes are stored"))
    };
    publish(&[site(&web)]);
    // With the certificate in it, which is the last to come.
    let alone = stored(&|bytes| bytes > (web.1.len() + web.2.len()) as u64);
    publish(&[site(&web), site(&other)]);
    assert!(proxy.admin("/config_dump").1.contains("other.test"));
    stored(&|bytes| bytes > alone + (other.1.len() + other.2.len()) as u64);

    publish(&[site(&web)]);
    let dump = proxy.admin("/config_dump").1;
    assert!(dump.contains("web.test") && !dump.contains("other.test"), "{dump}");
    stored(&|bytes| bytes == alone);

    let first = proxy.wait_for_worker(|_| true).pid;
    drop(control_plane);
    kill(first, Signal::KILL);
    assert_eq!(get_over_tls(listen, web.3).unwrap().body, "over tls");
    assert!(!proxy.admin("/config_dump").1.contains("other.test"));
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .flat_map(|entry| match entry.file_type().unwrap() {
            kind if kind.is_dir() => walk(&entry.path()),
            kind if kind.is_file() => vec![entry.path()],
            _ => Vec::new(),
        })
        .collect()
}
