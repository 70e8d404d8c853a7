{{- /* Written by packaging/kubernetes/manifests.py.
A changed configuration is a new ConfigMap: a rolling update applies it node by node. */}}
{{- define "mom.config.name" -}}
mom-{{ tpl .Values.config . | sha256sum | trunc 10 }}
{{- end }}
