{{- define "millrace.labels" -}}
app.kubernetes.io/part-of: millrace
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "millrace.agentImage" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "millrace.proxyImage" -}}
{{ .Values.proxy.image.repository }}:{{ .Values.proxy.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Where the API server is, for kube's client: never the Service's address, which Millrace itself makes work. */}}
{{- define "millrace.apiServer" -}}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .Values.k8sServiceHost | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .Values.k8sServicePort | quote }}
{{- end }}

{{/* Namespaces whose Secrets are read, as a JSON list. */}}
{{- define "millrace.secretsNamespaces" -}}
{{- $names := .Values.secretsNamespaces -}}
{{- range $part := list .Values.ingressController .Values.gatewayAPI -}}
{{- $names = append $names $part.secretsNamespace.name -}}
{{- end -}}
{{ dict "names" ($names | uniq | sortAlpha) | toJson }}
{{- end }}

{{/* What agents and operator are told alike, so that they derive the same. */}}
{{- define "millrace.translationArguments" -}}
{{- $names := (include "millrace.secretsNamespaces" . | fromJson).names -}}
- --secrets-namespaces={{ join "," $names }}
- --enforce-ingress-https={{ .Values.ingressController.enforceHttps }}
- --ingress-default-lb-mode={{ .Values.ingressController.loadbalancerMode }}
{{- range .Values.addresses }}
- --address={{ . }}
{{- end }}
{{- if .Values.debug.enabled }}
- --log=debug
{{- end }}
{{- end }}

{{- define "millrace.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* A container that writes files of root, and nothing else. */}}
{{- define "millrace.noRights" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* What of the node the agent has. */}}
{{- define "millrace.nodeVolumes" -}}
- name: run
  hostPath: {path: /run/millrace, type: DirectoryOrCreate}
- name: bpf
  hostPath: {path: /sys/fs/bpf, type: Directory}
- name: cgroup
  hostPath: {path: /sys/fs/cgroup, type: Directory}
- name: sysctl
  hostPath: {path: /proc/sys/net, type: Directory}
- name: cni-bin
  hostPath: {path: {{ .Values.cni.binPath }}, type: DirectoryOrCreate}
- name: cni-conf
  hostPath: {path: {{ .Values.cni.confPath }}, type: DirectoryOrCreate}
{{- end }}

{{/* What agents and operator read of all namespaces: the kinds of k8s/README.md but Secrets. */}}
{{- define "millrace.readRules" -}}
- apiGroups: [""]
  resources: [namespaces, nodes, services]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
- apiGroups: [networking.k8s.io]
  resources: [ingressclasses, ingresses]
  verbs: [list, watch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [gatewayclasses, gateways, httproutes, referencegrants]
  verbs: [list, watch]
- apiGroups: [cilium.io]
  resources: [ciliumendpoints, ciliumidentities, ciliumloadbalancerippools, ciliumnodes]
  verbs: [list, watch]
{{- end }}
