//! What one tenant writes must not hold back the table that everybody on its address shares: whatever passes
//! the translators and is lowered, our proxy takes.

use fastrand::Rng;
use mesh_model::address::AddressAssignments;
use mesh_model::l7::Fragments;
use mesh_model::{ConditionIntent, ObjectKey};
use mesh_xds::lower::{LowerConfig, lower};
use mesh_xds::resolve::resolve;
use serde_json::{Value, json};

use crate::load::World;
use crate::mesh::redirect;
use crate::proxy::proxy;

/// Names and values that a proxy takes, takes in some places, and never takes.
const NAMES: [&str; 14] = [
    "X-A",
    "x-b",
    "Host",
    "Connection",
    "UPGRADE",
    "te",
    "Trailer",
    "content-length",
    "Transfer-Encoding",
    ":path",
    "a b",
    "",
    "Keep-Alive",
    "cookie",
];
const VALUES: [&str; 12] = [
    "plain.example.com",
    "plain.example.com:8080",
    "shop.example.com/",
    "a b",
    "",
    "user@shop.example.com",
    "\u{e4}.test",
    "%REQ(x)%",
    "100%",
    "a\r\nb",
    "[::1]:80",
    "a:b:c",
];
const EXPRESSIONS: [&str; 14] = [
    "/a.*",
    "/[\u{e4}\u{f6}\u{fc}]+",
    "/\u{e4}+",
    r"/\p{Greek}+",
    r"(?u)/\p{Greek}+",
    r"(?u:\w{300})",
    r"\w{300}",
    r"/\d+",
    "(?i)k",
    "a)|(b",
    "(?x)a #",
    r"\xff",
    r"[^\x00-\x7f]",
    r"(?-u:\xff)",
];

fn pick(rng: &mut Rng, of: &[&'static str]) -> String {
    let mut picked = of[rng.usize(..of.len())].to_owned();
    if rng.u8(..4) == 0 {
        let any = [rng.char(..), rng.char('!'..='~')][rng.usize(..2)];
        picked.push(any);
    }
    picked
}

fn modifier(rng: &mut Rng) -> Value {
    let pairs = |rng: &mut Rng| -> Value {
        let pair = |rng: &mut Rng| json!({ "name": pick(rng, &NAMES), "value": pick(rng, &VALUES) });
        (0..rng.usize(..2)).map(|_| pair(rng)).collect()
    };
    let (set, add) = (pairs(rng), pairs(rng));
    let remove: Vec<String> = (0..rng.usize(..2)).map(|_| pick(rng, &NAMES)).collect();
    json!({ "set": set, "add": add, "remove": remove })
}

fn route_match(rng: &mut Rng) -> Value {
    let mut all = json!({ "path": match rng.u8(..3) {
        0 => json!({ "type": "RegularExpression", "value": pick(rng, &EXPRESSIONS) }),
        1 => json!({ "type": "Exact", "value": format!("/{}", pick(rng, &VALUES)) }),
        _ => json!({ "type": "PathPrefix", "value": format!("/{}", pick(rng, &VALUES)) }),
    }});
    let value = |rng: &mut Rng| match rng.bool() {
        true => ("RegularExpression", pick(rng, &EXPRESSIONS)),
        false => ("Exact", pick(rng, &VALUES)),
    };
    for field in ["headers", "queryParams"] {
        if rng.u8(..3) == 0 {
            let (kind, text) = value(rng);
            all[field] = json!([{ "type": kind, "name": pick(rng, &NAMES), "value": text }]);
        }
    }
    all
}

fn rule(rng: &mut Rng) -> Value {
    let mut filters = Vec::new();
    if rng.bool() {
        filters.push(json!({ "type": "RequestHeaderModifier", "requestHeaderModifier": modifier(rng) }));
    }
    if rng.bool() {
        filters.push(json!({ "type": "ResponseHeaderModifier", "responseHeaderModifier": modifier(rng) }));
    }
    let path = |rng: &mut Rng| match rng.bool() {
        true => json!({ "type": "ReplaceFullPath", "replaceFullPath": format!("/{}", pick(rng, &VALUES)) }),
        false => {
            json!({ "type": "ReplacePrefixMatch", "replacePrefixMatch": format!("/{}", pick(rng, &VALUES)) })
        }
    };
    let mut backends = json!([{ "name": "echo", "port": 80, "weight": rng.u32(..3) }]);
    match rng.u8(..4) {
        0 => filters.push(json!({ "type": "URLRewrite",
            "urlRewrite": { "hostname": pick(rng, &VALUES), "path": path(rng) } })),
        1 => {
            filters.push(json!({ "type": "RequestRedirect",
                "requestRedirect": { "hostname": pick(rng, &VALUES), "path": path(rng) } }));
            backends = json!([]);
        }
        2 => {
            backends[0]["filters"] =
                json!([{ "type": "RequestHeaderModifier", "requestHeaderModifier": modifier(rng) }]);
        }
        _ => {}
    }
    json!({ "matches": [route_match(rng)], "filters": filters, "backendRefs": backends })
}

fn documents(rng: &mut Rng) -> Vec<Value> {
    let mut documents = vec![
        json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": { "name": "cilium" },
            "spec": { "controllerName": "io.cilium/gateway-controller" } }),
        json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": { "name": "web" },
            "spec": { "gatewayClassName": "cilium",
                "listeners": [{ "name": "http", "port": 80, "protocol": "HTTP" }] } }),
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "echo" },
            "spec": { "clusterIP": "10.96.0.10", "ports": [{ "name": "http", "port": 80 }] } }),
    ];
    for tenant in 0..3 {
        let rules: Vec<Value> = (0..rng.usize(1..3)).map(|_| rule(rng)).collect();
        documents.push(json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": { "name": format!("tenant-{tenant}") },
            "spec": { "parentRefs": [{ "name": "web" }],
                "hostnames": [format!("tenant-{tenant}.test")], "rules": rules } }));
    }
    let paths: Vec<Value> = (0..2)
        .map(|_| {
            json!({ "path": pick(rng, &EXPRESSIONS), "pathType": "ImplementationSpecific",
                "backend": { "service": { "name": "echo", "port": { "number": 80 } } } })
        })
        .collect();
    documents.push(json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": { "name": "expressions" },
        "spec": { "ingressClassName": "cilium",
            "rules": [{ "host": "ingress.test", "http": { "paths": paths } }] } }));
    documents
}

/// What the documents come to at the proxy, all objects on one address: what it refuses, and what was said.
fn refused(documents: Vec<Value>) -> (Vec<mesh_l7proxy_config::Rejected>, Vec<ConditionIntent>) {
    let world = World::read(documents).expect("documents of known kinds");
    let (objects, services, certificates) = (&world.objects, &world.services, &world.certificates);
    let translations = [
        mesh_ingress::translate(
            &mesh_ingress::Input { objects, services, certificates },
            &mesh_ingress::Config::default(),
        ),
        mesh_gateway_api::translate(
            &mesh_gateway_api::Input { objects, services, certificates },
            &mesh_gateway_api::Config::default(),
        ),
    ];
    let mut fragments = Fragments::default();
    let mut said = Vec::new();
    for translation in translations {
        fragments.extend(translation.fragments);
        said.extend(translation.conditions);
    }
    let owners = fragments.listeners.iter().map(|listener| listener.key.object.clone());
    let addresses: AddressAssignments =
        owners.map(|owner: ObjectKey| (owner, vec![[203, 0, 113, 1].into()])).collect();
    let effective = resolve(&fragments, &addresses, services, &redirect());
    said.extend(effective.conditions.iter().cloned());
    let set = lower(&effective, &Default::default(), certificates, &LowerConfig::default());
    let (store, rejected) = proxy(&set);
    assert_eq!(store.snapshot().listeners().count(), 2, "the entry and the address");
    (rejected, said)
}

#[test]
fn what_a_tenant_writes_is_served_or_left_out_and_never_refused_by_the_proxy() {
    for seed in 0..1500 {
        let documents = documents(&mut Rng::with_seed(seed));
        let (rejected, _) = refused(documents.clone());
        assert_eq!(rejected, [], "seed {seed}: {documents:#?}");
    }
}

#[test]
fn a_rule_that_no_proxy_carries_out_is_left_out_and_its_owner_told() {
    let modifier = |modifier| {
        json!({ "filters": [{ "type": "RequestHeaderModifier", "requestHeaderModifier": modifier }],
            "backendRefs": [{ "name": "echo", "port": 80 }] })
    };
    let matching = |value| {
        json!({ "matches": [{ "path": { "type": "RegularExpression", "value": value } }],
            "backendRefs": [{ "name": "echo", "port": 80 }] })
    };
    let cases = [
        (matching("/[\u{e4}\u{f6}\u{fc}]+"), "spec.rules[0].matches[0].path.value"),
        (matching(r"/\p{Greek}"), "spec.rules[0].matches[0].path.value"),
        (modifier(json!({ "remove": ["Connection"] })), "requestHeaderModifier.remove[0].name"),
        (
            modifier(json!({ "add": [{ "name": "TE", "value": "trailers" }] })),
            "requestHeaderModifier.add[0].name",
        ),
        (
            modifier(json!({ "set": [{ "name": "Host", "value": "shop.example.com/" }] })),
            "requestHeaderModifier.set[0].value",
        ),
        (
            modifier(json!({ "set": [{ "name": "host", "value": "a b" }] })),
            "requestHeaderModifier.set[0].value",
        ),
    ];
    for (rule, field) in cases {
        let mut documents = documents(&mut Rng::with_seed(0));
        let route = documents.iter_mut().find(|document| document["kind"] == "HTTPRoute").expect("a route");
        route["spec"]["rules"] = json!([rule, { "backendRefs": [{ "name": "echo", "port": 80 }] }]);
        let (rejected, said) = refused(documents);
        assert_eq!(rejected, [], "{rule}");
        let told = said.iter().any(|c| c.origin.object.name.name == "tenant-0" && c.message.contains(field));
        assert!(told, "{rule}: {said:#?}");
    }
}
