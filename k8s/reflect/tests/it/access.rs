//! Addresses, certificates and tokens.

use std::fs;
use std::path::{Path, PathBuf};

use mesh_k8s_api::Kind;
use mesh_k8s_reflect::{ApiServer as Access, Cause, Config, Failure, Phase, Reflection};
use mesh_testkit::api_server::ApiServer;
use mesh_testkit::certificate::Certificate;

use crate::fixture::{CORE, Followed, SERVICES, phase, ports, service, timing};

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// A kubeconfig as a pod would have one: CA and token in files.
fn kubeconfig(folder: &Path, url: &str) -> PathBuf {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: '{url}', certificate-authority: '{ca}'}}}}]\n\
         users: [{{name: u, user: {{tokenFile: '{token}'}}}}]\n",
        ca = folder.join("ca.crt").display(),
        token = folder.join("token").display(),
    );
    write(folder, "kubeconfig", &text)
}

fn through(kubeconfig: PathBuf) -> Config {
    Config { timing: timing(), ..Config::new(Access { kubeconfig: Some(kubeconfig), urls: Vec::new() }) }
}

async fn failure(followed: &mut Followed) -> Failure {
    let is_told = |phase: Phase| matches!(phase, Phase::Failing { .. });
    let state = followed.until("it is told", |state| is_told(phase(state, Kind::Service))).await;
    match phase(&state, Kind::Service) {
        Phase::Failing { failure, .. } => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_token_is_read_anew_when_the_server_takes_the_old_one_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::for_hosts(&["127.0.0.1"]).unwrap();
    write(folder.path(), "ca.crt", &certificate.certificate_pem);
    write(folder.path(), "token", "first-canary");
    let server = ApiServer::start_tls(&CORE, certificate).unwrap();
    server.take_tokens(&["first-canary"]);
    server.put(SERVICES, service("web", 80));
    let mut followed = Followed::start(through(kubeconfig(folder.path(), &server.url()))).await;
    followed.read().await;
    write(folder.path(), "token", "second-canary");
    server.take_tokens(&["second-canary"]);
    server.cut_watches();
    server.put(SERVICES, service("web", 81));
    let state = followed.until("the new token is used", |state| ports(state)[0].1 == 81).await;
    assert!(!format!("{state:?}").contains("canary"));
}

#[tokio::test]
async fn a_token_that_is_refused_is_told_without_showing_it() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::for_hosts(&["127.0.0.1"]).unwrap();
    write(folder.path(), "ca.crt", &certificate.certificate_pem);
    write(folder.path(), "token", "canary");
    let server = ApiServer::start_tls(&CORE, certificate).unwrap();
    server.take_tokens(&["another"]);
    let mut followed = Followed::start(through(kubeconfig(folder.path(), &server.url()))).await;
    let failure = failure(&mut followed).await;
    assert_eq!(failure.cause, Cause::Unauthenticated);
    assert!(failure.fix.contains("token") && !format!("{failure:?}").contains("canary"), "{failure:?}");
}

#[tokio::test]
async fn a_token_that_no_request_can_carry_is_told_without_showing_it() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::for_hosts(&["127.0.0.1"]).unwrap();
    write(folder.path(), "ca.crt", &certificate.certificate_pem);
    write(folder.path(), "token", "canary\n");
    let server = ApiServer::start_tls(&CORE, certificate).unwrap();
    let mut followed = Followed::start(through(kubeconfig(folder.path(), &server.url()))).await;
    let failure = failure(&mut followed).await;
    assert_eq!(failure.cause, Cause::Unauthenticated);
    assert!(failure.fix.contains("line break") && !format!("{failure:?}").contains("canary"), "{failure:?}");
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted_and_the_ca_to_mend_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::for_hosts(&["127.0.0.1"]).unwrap();
    let other = Certificate::for_hosts(&["127.0.0.1"]).unwrap();
    write(folder.path(), "ca.crt", &other.certificate_pem);
    write(folder.path(), "token", "t");
    let server = ApiServer::start_tls(&CORE, certificate.clone()).unwrap();
    let mut followed = Followed::start(through(kubeconfig(folder.path(), &server.url()))).await;
    let failure = failure(&mut followed).await;
    assert_eq!(failure.cause, Cause::Untrusted, "{failure:?}");
    assert!(failure.fix.contains("certificate-authority"), "{failure:?}");
    // The file is looked at again by itself.
    write(folder.path(), "ca.crt", &certificate.certificate_pem);
    followed.read().await;
}

#[tokio::test]
async fn a_name_that_the_certificate_has_not_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::for_hosts(&["api.example.com"]).unwrap();
    write(folder.path(), "ca.crt", &certificate.certificate_pem);
    write(folder.path(), "token", "t");
    let server = ApiServer::start_tls(&CORE, certificate).unwrap();
    let mut followed = Followed::start(through(kubeconfig(folder.path(), &server.url()))).await;
    let failure = failure(&mut followed).await;
    assert_eq!(failure.cause, Cause::Untrusted, "{failure:?}");
    assert!(failure.fix.contains("tls-server-name"), "{failure:?}");
}

#[tokio::test]
async fn the_next_address_is_asked_when_one_does_not_answer() {
    let mut first = ApiServer::start(&CORE).unwrap();
    let second = ApiServer::start(&CORE).unwrap();
    second.put(SERVICES, service("web", 80));
    first.stop();
    let urls = [&first, &second].map(|server| server.url().parse().unwrap());
    let access = Access { kubeconfig: None, urls: urls.to_vec() };
    let mut followed = Followed::start(Config { timing: timing(), ..Config::new(access) }).await;
    let state = followed.read().await;
    assert_eq!(state.objects.len(), 1);
    assert_eq!(state.server.trim_end_matches('/'), second.url());
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in
        [("missing", None), ("garbage", Some("{{{")), ("empty", Some("apiVersion: v1\nkind: Config\n"))]
    {
        let path = folder.path().join(name);
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        let error = Reflection::start(through(path)).await.unwrap_err();
        assert!(error.to_string().contains(name) && error.to_string().contains("kubectl"), "{error}");
    }
}
