use std::path::Path;

use crate::store::Store;

/// `object` is refused for exactly the fields in `expected`; none: it is served.
#[track_caller]
fn check(object: &str, expected: &[&str]) {
    let mut store = Store::default();
    store.put(Path::new("a.yaml"), object.as_bytes());
    let problems = store.problems();
    let fields: Vec<_> = problems.iter().map(|p| p.field.clone().unwrap_or_default()).collect();
    let text: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(fields, expected, "{object}\n{text:#?}");
    assert!(problems.iter().all(|p| p.line.is_some() && !p.fix.is_empty()), "{text:#?}");
    assert_eq!(store.objects().len(), usize::from(expected.is_empty()), "{object}");
}

fn object(group: &str, kind: &str, rest: &str) -> String {
    format!("apiVersion: {group}\nkind: {kind}\nmetadata: {{name: x}}\n{rest}\n")
}

fn ingress(spec: &str) -> String {
    object("networking.k8s.io/v1", "Ingress", &format!("spec: {spec}"))
}

fn path(path: &str, kind: &str, backend: &str) -> String {
    ingress(&format!(
        "{{rules: [{{http: {{paths: [{{path: {path}, pathType: {kind}, backend: {backend}}}]}}}}]}}"
    ))
}

const WEB: &str = "{service: {name: web, port: {number: 80}}}";

#[test]
fn names_are_checked() {
    for (name, good) in
        [("a", true), ("a.b-c", true), ("A", false), ("a_b", false), ("-a", false), ("a..b", false)]
    {
        let text = object("networking.k8s.io/v1", "IngressClass", "spec: {controller: a.io/b}");
        let expected: &[&str] = if good { &[] } else { &["metadata.name"] };
        check(&text.replace("name: x", &format!("name: '{name}'")), expected);
    }
    check(
        &object("v1", "Service", "spec: {ports: [{port: 80}]}").replace("name: x", "name: x, namespace: A"),
        &["metadata.namespace"],
    );
}

#[test]
fn ingresses_are_checked() {
    check(&path("/", "Prefix", WEB), &[]);
    check(&path("''", "ImplementationSpecific", WEB), &[]);
    check(&ingress("{defaultBackend: {resource: {kind: B, name: b}}}"), &[]);
    check(&ingress("{}"), &["spec"]);
    check(&path("/", "Perfix", WEB), &["spec.rules[0].http.paths[0].pathType"]);
    check(&path("shop", "Exact", WEB), &["spec.rules[0].http.paths[0].path"]);
    check(&path("/a//b", "Prefix", WEB), &["spec.rules[0].http.paths[0].path"]);
    check(&path("/a/../b", "Prefix", WEB), &["spec.rules[0].http.paths[0].path"]);
    check(&path("/", "Prefix", "{}"), &["spec.rules[0].http.paths[0].backend"]);
    let at = "spec.rules[0].http.paths[0].backend.service";
    check(&path("/", "Prefix", "{service: {name: web}}"), &[&format!("{at}.port")]);
    check(&path("/", "Prefix", "{service: {name: W, port: {name: http}}}"), &[&format!("{at}.name")]);
    check(
        &path("/", "Prefix", "{service: {name: web, port: {number: 70000}}}"),
        &[&format!("{at}.port.number")],
    );
    check(
        &path("/", "Prefix", "{service: {name: web, port: {number: http}}}"),
        &[&format!("{at}.port.number")],
    );
    for host in ["10.0.0.1", "A.example", "a.example:80", "'*'", "'*.*.example'", "a_b.example"] {
        check(
            &ingress(&format!("{{rules: [{{host: '{}'}}]}}", host.trim_matches('\''))),
            &["spec.rules[0].host"],
        );
    }
    check(&ingress("{rules: [{host: '*.example.com'}], tls: [{hosts: ['-a']}]}"), &["spec.tls[0].hosts[0]"]);
}

#[test]
fn services_are_checked() {
    let service = |spec: &str| object("v1", "Service", &format!("spec: {spec}"));
    check(&service("{ports: [{port: 80, targetPort: http}], clusterIPs: [10.96.0.1, 'fd00::1']}"), &[]);
    check(&service("{clusterIP: None}"), &[]);
    check(&service("{type: ExternalName, externalName: a.example}"), &[]);
    check(&service("{type: ExternalName}"), &["spec.externalName"]);
    check(&service("{}"), &["spec.ports"]);
    check(&service("{type: Balancer, ports: [{port: 80}]}"), &["spec.type"]);
    check(&service("{ports: [{port: 0}]}"), &["spec.ports[0].port"]);
    check(&service("{ports: [{port: '80'}]}"), &["spec.ports[0].port"]);
    check(&service("{ports: [{port: 80, targetPort: 0}]}"), &["spec.ports[0].targetPort"]);
    check(&service("{ports: [{port: 80, protocol: Tcp}]}"), &["spec.ports[0].protocol"]);
    check(&service("{ports: [{port: 80}, {name: a, port: 81}]}"), &["spec.ports[0].name"]);
    check(&service("{ports: [{name: a, port: 80}, {name: a, port: 81}]}"), &["spec.ports[1].name"]);
    check(&service("{ports: [{name: a, port: 80}, {name: b, port: 80}]}"), &["spec.ports[1].port"]);
    check(&service("{ports: [{port: 80}], clusterIP: 10.96.0.300}"), &["spec.clusterIP"]);
    check(&service("{ports: [{port: 80}], clusterIPs: [10.0.0.1, 10.0.0.2]}"), &["spec.clusterIPs"]);
}

#[test]
fn endpoint_slices_are_checked() {
    let slice = |rest: &str| object("discovery.k8s.io/v1", "EndpointSlice", rest);
    check(&slice("addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\nports: [{port: 80}]"), &[]);
    check(&slice("addressType: ipv4\nendpoints: []"), &["addressType"]);
    check(&slice("addressType: IPv4\nendpoints: [{addresses: ['fd00::1']}]"), &["endpoints[0].addresses[0]"]);
    check(&slice("addressType: IPv6\nendpoints: [{addresses: []}]"), &["endpoints[0].addresses"]);
    check(&slice("addressType: IPv4\nendpoints: []\nports: [{port: 70000}]"), &["ports[0].port"]);
}

#[test]
fn secrets_are_checked() {
    check(&object("v1", "Secret", "type: kubernetes.io/tls\ndata: {tls.crt: QQ==, tls.key: QQ==}"), &[]);
    check(&object("v1", "Secret", "type: kubernetes.io/tls\nstringData: {tls.crt: a}"), &["data[tls.key]"]);
    check(&object("v1", "Secret", "data: {a: '%'}"), &["data.a"]);
}

#[test]
fn gateways_are_checked() {
    let gateway =
        |spec: &str| object("gateway.networking.k8s.io/v1", "Gateway", &format!("spec: {{{spec}}}"));
    let listener =
        |rest: &str| gateway(&format!("gatewayClassName: c, listeners: [{{name: a, port: 80, {rest}}}]"));
    check(&listener("protocol: HTTP, hostname: '*.example'"), &[]);
    check(&gateway("gatewayClassName: c"), &["spec"]);
    check(&gateway("gatewayClassName: '', listeners: []"), &["spec.gatewayClassName", "spec.listeners"]);
    check(&listener("protocol: HTTP, hostname: a_b"), &["spec.listeners[0].hostname"]);
    check(&listener("protocol: HTTP, tls: {}"), &["spec.listeners[0].tls"]);
    check(
        &gateway(
            "gatewayClassName: c, listeners: [{name: a, port: 0, protocol: HTTP}, {name: a, port: 80, protocol: HTTP}]",
        ),
        &["spec.listeners[0].port", "spec.listeners[1].name"],
    );
    check(
        &gateway(
            "gatewayClassName: c, listeners: [{name: a, port: 80, protocol: HTTP}], addresses: [{value: x}]",
        ),
        &["spec.addresses[0].value"],
    );
    check(
        &object("gateway.networking.k8s.io/v1", "GatewayClass", "spec: {controllerName: me}"),
        &["spec.controllerName"],
    );
}

#[test]
fn http_routes_are_checked() {
    let route =
        |rest: &str| object("gateway.networking.k8s.io/v1", "HTTPRoute", &format!("spec: {{{rest}}}"));
    let rule = |rest: &str| route(&format!("rules: [{{{rest}}}]"));
    check(
        &rule("matches: [{path: {value: /a}, method: GET}], backendRefs: [{name: a, port: 80, weight: 0}]"),
        &[],
    );
    check(&rule("matches: [{path: {type: RegularExpression, value: 'a('}}]"), &[]);
    check(&route("hostnames: [10.0.0.1]"), &["spec.hostnames[0]"]);
    check(&rule("matches: [{path: {value: a}}]"), &["spec.rules[0].matches[0].path.value"]);
    check(&rule("matches: [{path: {type: Glob, value: /a}}]"), &["spec.rules[0].matches[0].path.type"]);
    check(&rule("matches: [{method: get}]"), &["spec.rules[0].matches[0].method"]);
    check(
        &rule("matches: [{headers: [{name: 'a b', value: x}]}]"),
        &["spec.rules[0].matches[0].headers[0].name"],
    );
    check(&rule("backendRefs: [{name: a}]"), &["spec.rules[0].backendRefs[0].port"]);
    check(&rule("backendRefs: [{name: a, port: 80, weight: -1}]"), &["spec.rules[0].backendRefs[0].weight"]);
    check(&rule("filters: [{type: RequestRedirect}]"), &["spec.rules[0].filters[0].requestRedirect"]);
    check(
        &rule("filters: [{type: RequestRedirect, requestRedirect: {statusCode: 200}}]"),
        &["spec.rules[0].filters[0].requestRedirect.statusCode"],
    );
    check(
        &rule("filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: a, port: 80}]"),
        &["spec.rules[0].backendRefs"],
    );
    check(
        &rule(
            "matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: \
             {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]",
        ),
        &["spec.rules[0].filters[0].urlRewrite.path.type"],
    );
    check(
        &rule("filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: ['a:']}}]"),
        &["spec.rules[0].filters[0].requestHeaderModifier.remove[0]"],
    );
    check(&rule("timeouts: {request: 1x}"), &["spec.rules[0].timeouts.request"]);
    check(&rule("timeouts: {request: 1s, backendRequest: 2s}"), &["spec.rules[0].timeouts.backendRequest"]);
}

#[test]
fn pools_are_checked() {
    let pool = |blocks: &str| {
        object("cilium.io/v2", "CiliumLoadBalancerIPPool", &format!("spec: {{blocks: [{blocks}]}}"))
    };
    check(
        &pool("{cidr: 192.0.2.0/28}, {start: '2001:db8::1', stop: '2001:db8::9'}, {start: 192.0.2.40}"),
        &[],
    );
    check(&pool("{cidr: 192.0.2.0}"), &["spec.blocks[0].cidr"]);
    check(&pool("{}"), &["spec.blocks[0]"]);
    check(&pool("{start: 192.0.2.9, stop: 192.0.2.1}"), &["spec.blocks[0].stop"]);
    check(&pool("{start: 192.0.2.9, stop: 'fd00::1'}"), &["spec.blocks[0].stop"]);
}
