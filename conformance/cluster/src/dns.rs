//! The cluster's DNS: CoreDNS behind the Service that pods' resolv.conf names. It knows the cluster's names alone.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::image;

/// Names the namespace to those who look for DNS pods there, as most tests of Kubernetes do.
const NAMESPACE: &str = "kube-system";

const OBJECTS: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: coredns, namespace: NAMESPACE}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: coredns}
rules:
- {apiGroups: [""], resources: [services, pods, namespaces], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: coredns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: coredns}
subjects: [{kind: ServiceAccount, name: coredns, namespace: NAMESPACE}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: NAMESPACE}
data:
  Corefile: |
    .:53 {
        errors
        health {
            lameduck 5s
        }
        ready
        kubernetes cluster.local in-addr.arpa ip6.arpa {
            pods insecure
            ttl 30
        }
        cache 30
        reload
    }
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: coredns, namespace: NAMESPACE, labels: {k8s-app: kube-dns}}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {k8s-app: kube-dns}}
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec:
      serviceAccountName: coredns
      dnsPolicy: Default
      tolerations: [{operator: Exists}]
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector: {matchLabels: {k8s-app: kube-dns}}
      containers:
      - name: coredns
        image: IMAGE
        imagePullPolicy: IfNotPresent
        args: [-conf, /etc/coredns/Corefile]
        ports:
        - {name: dns, containerPort: 53, protocol: UDP}
        - {name: dns-tcp, containerPort: 53, protocol: TCP}
        - {name: metrics, containerPort: 9153, protocol: TCP}
        livenessProbe: {httpGet: {path: /health, port: 8080}, initialDelaySeconds: 30}
        readinessProbe: {httpGet: {path: /ready, port: 8181}, periodSeconds: 1}
        securityContext:
          allowPrivilegeEscalation: false
          capabilities: {add: [NET_BIND_SERVICE], drop: [ALL]}
          readOnlyRootFilesystem: true
        volumeMounts: [{name: config, mountPath: /etc/coredns, readOnly: true}]
      volumes: [{name: config, configMap: {name: coredns}}]
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: NAMESPACE, labels: {k8s-app: kube-dns, kubernetes.io/name: CoreDNS}}
spec:
  selector: {k8s-app: kube-dns}
  clusterIP: ADDRESS
  ipFamilyPolicy: PreferDualStack
  ports:
  - {name: dns, port: 53, protocol: UDP, targetPort: 53}
  - {name: dns-tcp, port: 53, protocol: TCP, targetPort: 53}
"#;

/// Gives the nodes its image and the API server its objects; its pods come when there is a pod network.
///
/// # Errors
/// A node does not take the image, or the API server an object.
pub fn install(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.load_image(&image::dns(cluster.programs())?, None)?;
    let objects = OBJECTS
        .replace("NAMESPACE", NAMESPACE)
        .replace("IMAGE", image::DNS)
        .replace("REPLICAS", &cluster.nodes().len().min(2).to_string())
        .replace("ADDRESS", &cluster.spec().plan().dns().to_string());
    cluster.apply(&objects)
}

/// Waits until its pods are ready.
///
/// # Errors
/// They are not within the time.
pub fn wait(cluster: &Cluster, within: Duration) -> anyhow::Result<()> {
    cluster.wait_for_pods(NAMESPACE, "k8s-app=kube-dns", within).map(drop)
}
