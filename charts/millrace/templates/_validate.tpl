{{/*
What Millrace cannot do yet, by Cilium's keys: each with the values that ask for nothing, and what to do. A key that is
absent, or has one of these values, passes; every other value fails the installation, rather than being ignored.
*/}}
{{- define "millrace.notYet" -}}
- {key: bandwidthManager.enabled, pass: [false], fix: "set it to false: pods' rates are not limited yet"}
- {key: bgpControlPlane.enabled, pass: [false], fix: "set it to false and announce the addresses by other means"}
- {key: bpf.masquerade, pass: [true], fix: "set it to true: there is no other way of masquerading"}
- {key: cni.chainingMode, pass: [none], fix: "set it to none: Millrace is the whole network of a pod"}
- {key: cni.customConf, pass: [false], fix: "set it to false: Millrace writes the configuration itself"}
- {key: ciliumEndpointSlice.enabled, pass: [false], fix: "set it to false"}
- {key: clustermesh.useAPIServer, pass: [false], fix: "set it to false: clusters are not joined yet"}
- {key: egressGateway.enabled, pass: [false], fix: "set it to false"}
- {key: encryption.enabled, pass: [false], fix: "set it to false: pods' traffic is not encrypted yet"}
- {key: envoy.enabled, pass: [true], fix: "leave it out: Millrace has a proxy of its own, set proxy.* for it"}
- {key: envoyConfig.enabled, pass: [false], fix: "set it to false: CiliumEnvoyConfig is not read yet"}
- {key: gatewayAPI.secretsNamespace.sync, pass: [false], fix: "set it to false and keep the Secrets in that namespace, or name theirs in secretsNamespaces"}
- {key: hostFirewall.enabled, pass: [false], fix: "set it to false"}
- {key: hubble.enabled, pass: [false], fix: "set it to false: flows are not recorded yet"}
- {key: identityAllocationMode, pass: [crd], fix: "leave it out"}
- {key: ingressController.secretsNamespace.sync, pass: [false], fix: "set it to false and keep the Secrets in that namespace, or name theirs in secretsNamespaces"}
- {key: ipam.mode, pass: [kubernetes, cluster-pool, cluster-pool-v2beta], fix: "set it to kubernetes, cluster-pool or cluster-pool-v2beta"}
- {key: kubeProxyReplacement, pass: [true], fix: "set it to true: Services are always Millrace's"}
- {key: l2announcements.enabled, pass: [false], fix: "set it to false and announce the addresses by other means"}
- {key: l7Proxy, pass: [true], fix: "set it to true: the proxy is always there"}
- {key: loadBalancer.acceleration, pass: [disabled], fix: "set it to disabled"}
- {key: loadBalancer.mode, pass: [snat], fix: "set it to snat"}
- {key: localRedirectPolicy, pass: [false], fix: "set it to false"}
- {key: policyEnforcementMode, pass: [never], fix: "set it to never: network policies are not enforced yet"}
- {key: prometheus.enabled, pass: [false], fix: "set it to false: `millrace proxy stats` has the numbers"}
- {key: tunnelProtocol, pass: [vxlan], fix: "set it to vxlan: there is no other tunnel yet"}
{{- end }}

{{- define "millrace.validate" -}}
{{- $errors := list -}}
{{- if not .Values.k8sServiceHost -}}
{{- $errors = append $errors "k8sServiceHost is empty: set it, and k8sServicePort, to where the API server is reached without any Service" -}}
{{- end -}}
{{- if not (or .Values.ipv4.enabled .Values.ipv6.enabled) -}}
{{- $errors = append $errors "ipv4.enabled and ipv6.enabled are both false: set one of them to true" -}}
{{- end -}}
{{- if and .Values.ipv4.enabled .Values.enableIPv4Masquerade (not .Values.ipv4NativeRoutingCIDR) -}}
{{- $errors = append $errors "ipv4NativeRoutingCIDR is empty: set it to the range of all pods, or pods of other nodes would see the node's address" -}}
{{- end -}}
{{- if and .Values.ipv6.enabled .Values.enableIPv6Masquerade (not .Values.ipv6NativeRoutingCIDR) -}}
{{- $errors = append $errors "ipv6NativeRoutingCIDR is empty: set it to the range of all pods, or pods of other nodes would see the node's address" -}}
{{- end -}}
{{- if ne .Values.ipam.mode "kubernetes" -}}
{{- with .Values.ipam.operator -}}
{{- if and $.Values.ipv4.enabled (not .clusterPoolIPv4PodCIDRList) -}}
{{- $errors = append $errors "ipam.operator.clusterPoolIPv4PodCIDRList is empty: name ranges of which nodes get blocks, or set ipam.mode to kubernetes" -}}
{{- end -}}
{{- if and $.Values.ipv6.enabled (not .clusterPoolIPv6PodCIDRList) -}}
{{- $errors = append $errors "ipam.operator.clusterPoolIPv6PodCIDRList is empty: name ranges of which nodes get blocks, or set ipam.mode to kubernetes" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not (hasPrefix "/sys/fs/cgroup" .Values.cgroup.hostRoot) -}}
{{- $errors = append $errors (printf "cgroup.hostRoot is %s, which is not below /sys/fs/cgroup: mount the cgroup v2 hierarchy there" .Values.cgroup.hostRoot) -}}
{{- end -}}
{{- range $rule := include "millrace.notYet" . | fromYamlArray -}}
{{- $value := $.Values -}}
{{- $found := true -}}
{{- range $part := splitList "." $rule.key -}}
{{- if and $found (kindIs "map" $value) (hasKey $value $part) -}}
{{- $value = get $value $part -}}
{{- else -}}
{{- $found = false -}}
{{- end -}}
{{- end -}}
{{- if and $found (not (has $value $rule.pass)) -}}
{{- $errors = append $errors (printf "%s is %v, which Millrace does not have: %s" $rule.key $value $rule.fix) -}}
{{- end -}}
{{- end -}}
{{- if $errors -}}
{{- fail (printf "\n\n- %s\n" (join "\n- " $errors)) -}}
{{- end -}}
{{- end }}
