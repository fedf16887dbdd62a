//! What is wrong in one object is said, with its file, object, field and fix; the others serve on, and so does
//! the last good version of the wrong one. On plain listeners: no privileges are needed to be wrong.

use std::time::Duration;

use anyhow::ensure;
use mesh_conformance::PlainStack;
use mesh_testkit::wait;

use crate::fixture::{get_plain, plain};

/// Writes `text` as one more manifest; every part of `said` must appear in one place where people look
/// (problems, or conditions of `kind`), while hello.example.com is served all the time.
fn check(stack: &PlainStack, text: &str, kind: &str, said: &[&str]) {
    serves(stack);
    stack.write_manifest("60-bad.yaml", text).expect("a manifest");
    wait::until("it is said", Duration::from_secs(5), || {
        let status = stack.ask("/v1/status")?;
        let objects = stack.ask(&format!("/v1/get/{kind}"))?;
        let mut places: Vec<String> = Vec::new();
        places.extend(status["problems"].as_array().into_iter().flatten().map(ToString::to_string));
        let objects = objects.as_array().into_iter().flatten();
        places.extend(objects.map(|object| format!("{} {}", object["metadata"], object["status"])));
        let found = places.iter().any(|place| said.iter().all(|part| place.contains(part)));
        ensure!(found, "{said:?} is not said in {places:#?}");
        Ok(())
    })
    .expect("people are told");
    serves(stack);
}

fn serves(stack: &PlainStack) {
    wait::until("the good objects are served", Duration::from_secs(10), || {
        let answer = get_plain(stack.http(), "hello.example.com", "/")?;
        ensure!(answer.json()["pod"] == "pod1", "{}: {:?}", answer.status, answer.body);
        Ok(())
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", stack.log("agent.log"), stack.log("proxy.log")));
}

fn ingress(name: &str, host: &str, service: &str, port: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  ingressClassName: cilium\n  rules:\n  - host: {host}\n    http:\n      paths:\n      \
         - {{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {port}}}}}}}\n"
    )
}

#[test]
fn malformed_yaml_names_file_and_line() {
    check(&plain(), "apiVersion: v1\nkind: [\n", "ingress", &["60-bad.yaml", "2"]);
}

#[test]
fn an_unknown_kind_is_named() {
    let text = "apiVersion: example.com/v1\nkind: Frobnicator\nmetadata: {name: x, namespace: shop}\n";
    check(&plain(), text, "ingress", &["60-bad.yaml", "Frobnicator"]);
}

#[test]
fn an_unknown_field_is_named() {
    let text = ingress("typo", "typo.example.com", "web-v1", "{number: 80}").replace("rules:", "ruls:");
    check(&plain(), &text, "ingress", &["60-bad.yaml", "typo", "ruls"]);
}

#[test]
fn a_missing_secret_is_named() {
    let text = ingress("nocert", "nocert.example.com", "web-v1", "{number: 80}")
        .replace("  rules:", "  tls: [{hosts: [nocert.example.com], secretName: nowhere}]\n  rules:");
    check(&plain(), &text, "ingress", &["nocert", "shop/nowhere"]);
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let [one, other] = [(); 2].map(|()| {
        mesh_testkit::certificate::Certificate::for_hosts(&["mixed.example.com"]).expect("a certificate")
    });
    let mixed = mesh_testkit::certificate::Certificate { key_pem: other.key_pem, ..one };
    let text = ingress("mixed", "mixed.example.com", "web-v1", "{number: 80}")
        .replace("  rules:", "  tls: [{hosts: [mixed.example.com], secretName: mixed}]\n  rules:");
    let text = format!("{}---\n{text}", mixed.secret("shop", "mixed"));
    check(&plain(), &text, "ingress", &["shop/mixed", "is not the key"]);
}

#[test]
fn an_unknown_service_is_named() {
    let text = ingress("lost", "lost.example.com", "nobody", "{number: 80}");
    check(&plain(), &text, "ingress", &["lost", "nobody"]);
}

#[test]
fn an_unknown_port_is_named() {
    let text = ingress("lost", "lost.example.com", "web-v1", "{number: 81}");
    check(&plain(), &text, "ingress", &["lost", "web-v1", "81"]);
}

#[test]
fn of_two_objects_with_one_host_and_path_the_first_keeps_it() {
    let text = ingress("zzz-late", "hello.example.com", "web-v2", "{number: 80}");
    check(&plain(), &text, "ingress", &["zzz-late", "hello.example.com"]);
}

#[test]
fn a_bad_expression_is_named() {
    let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
                metadata: {name: regex, namespace: shop}\nspec:\n  parentRefs: [{name: edge}]\n  \
                hostnames: [regex.example.com]\n  rules:\n  - matches: [{path: {type: RegularExpression, value: \"/(\"}}]\n    \
                backendRefs: [{name: web-v1, port: 80}]\n";
    check(&plain(), text, "httproute", &["regex", "matches[0].path"]);
}

#[test]
fn a_backend_that_refuses_is_answered_with_503_and_others_serve_on() {
    let stack = plain();
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: closed, namespace: shop}\nspec:\n  \
                clusterIPs: [10.96.0.99]\n  ports: [{name: http, port: 80, targetPort: 1}]\n---\n\
                apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                metadata: {name: closed, namespace: shop, labels: {kubernetes.io/service-name: closed}}\n\
                addressType: IPv4\nendpoints: [{addresses: [10.244.1.11], conditions: {ready: true}}]\n\
                ports: [{name: http, port: 1}]\n---\n";
    let text = format!("{text}{}", ingress("closed", "closed.example.com", "closed", "{number: 80}"));
    stack.write_manifest("60-closed.yaml", &text).expect("a manifest");
    wait::until("the refused connection is answered", Duration::from_secs(10), || {
        let answer = get_plain(stack.http(), "closed.example.com", "/")?;
        ensure!(answer.status == 503, "{}", answer.status);
        Ok(())
    })
    .expect("503");
    serves(&stack);
}

#[test]
fn a_port_in_use_is_told_and_the_other_port_serves_on() {
    use std::net::TcpListener;

    let mut taken: Option<TcpListener> = None;
    let stack = crate::fixture::plain_with(|stack| {
        taken = Some(TcpListener::bind(stack.https()).expect("the port was free"));
    });
    serves(&stack);
    wait::until("it is said", Duration::from_secs(5), || {
        let text = format!("{} {}", stack.ask("/v1/status")?, stack.ask("/v1/get/ingress")?);
        ensure!(text.contains(&stack.https().to_string()) || text.contains("in use"), "{text}");
        Ok(())
    })
    .expect("people are told");
    drop(taken);
}

/// What an agent says that is to redirect on a kernel with these features; it has to end by itself.
fn refused_by_kernel(features: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let profile = folder.path().join("kernel.json");
    std::fs::write(&profile, features).expect("a file");
    let output = std::process::Command::new(crate::fixture::programs().join("mesh-agent"))
        .args(["--redirect", "on", "--start-proxy", "false", "--manifests"])
        .arg(folder.path())
        .arg("--run-dir")
        .arg(folder.path().join("run"))
        .arg("--kernel-features")
        .arg(&profile)
        .output()
        .expect("the agent starts");
    assert!(!output.status.success(), "it does not go on without");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A kernel without some things.
fn kernel(sk_lookup: &str, bpffs: &str) -> String {
    format!(
        r#"{{"release": "5.8.0", "privileges": "present", "tcx": "present", "clsact": "present",
            "sk_lookup": {sk_lookup}, "sockmap": "present", "sock_addr": "present", "ring_buffer": "present",
            "btf": "present", "bpffs": {bpffs}, "cgroup2": ["/sys/fs/cgroup"]}}"#
    )
}

#[test]
fn a_missing_kernel_feature_is_named_with_what_to_do_and_what_serves_without_it() {
    let absent = r#"{"absent": {"reason": "the kernel has no sk_lookup programs"}}"#;
    let said = refused_by_kernel(&kernel(absent, r#"["/sys/fs/bpf"]"#));
    for part in ["sk_lookup", "5.9", "--redirect=off"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_missing_bpf_file_system_is_named_with_the_command_that_mounts_it() {
    let said = refused_by_kernel(&kernel(r#""present""#, "[]"));
    for part in ["/sys/fs/bpf", "mount -t bpf"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn all_that_a_kernel_lacks_is_told_at_once() {
    let absent = r#"{"absent": {"reason": "the kernel has no sk_lookup programs"}}"#;
    let said = refused_by_kernel(&kernel(absent, "[]"));
    assert!(said.contains("sk_lookup") && said.contains("mount -t bpf"), "{said}");
}
