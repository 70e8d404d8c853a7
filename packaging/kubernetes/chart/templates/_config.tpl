{{- /* Written by packaging/kubernetes/manifests.py.
Another configuration is another ConfigMap: a rolling update takes it from node to node. */}}
{{- define "mom.config.name" -}}
mom-{{ tpl .Values.config . | sha256sum | trunc 10 }}
{{- end }}
