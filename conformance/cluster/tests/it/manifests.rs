//! What the tests ask the product to serve.

use mesh_conformance_cluster::cluster::Cluster;

/// The class of Ingresses that are ours; a chart brings its own.
pub(crate) const CLASS: &str = r#"
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: cilium}
spec: {controller: cilium.io/ingress-controller}
"#;

const INGRESS: &str = r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: HOST, namespace: NAMESPACE}
spec:
  ingressClassName: cilium
  rules:
  - host: HOST.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"#;

/// The Service `web` on port 80, of the namespace's pods as `spec` says in YAML's flow style.
pub(crate) fn web(cluster: &Cluster, namespace: &str, spec: &str) {
    let service = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: {namespace}}}, spec: {spec}}}"
    );
    cluster.apply(&service).expect("a Service");
}

/// An Ingress that leads from `HOST.example.com` to the Service `web`.
pub(crate) fn ingress(cluster: &Cluster, namespace: &str, host: &str) {
    let object = INGRESS.replace("NAMESPACE", namespace).replace("HOST", host);
    cluster.apply(&object).expect("an Ingress");
}
