"""Generate files from packaging/kubernetes/base and the alert rules: `.venv/bin/python packaging/kubernetes/manifests.py`.

The manifests in base are the source of the overlays' configurations and the Helm chart's templates. The pairs below replace texts; each
text occurs once in base. A test checks that the generated files are current, and that kustomize and Helm give the same result.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "packaging/kubernetes"

Pairs = Iterable[tuple[str, str]]
"""Text in base, and its replacement."""

ENFORCE: Final = (("\nmode: observe\n", "\nmode: enforce\n"),)
OFFLOAD: Final = (*ENFORCE, ("  # offload: {}\n", "  offload: {}\n"))
TCP: Final = (
    '    # tcp:\n    #   listen: "0.0.0.0:8132"\n    #   certificate: /etc/mom/metrics/tls.crt\n'
    "    #   key: /etc/mom/metrics/tls.key\n    #   read_token: /etc/mom/metrics/token\n"
)

CHART_CONFIG: Final = (
    ("\nmode: observe\n", "\nmode: {{ .Values.mode }}\n"),
    ("  # offload: {}\n", "  {{- if .Values.offload }}\n  offload: {}\n  {{- end }}\n"),
    (TCP, "    {{- if .Values.metrics.enabled }}\n" + TCP.replace("    # ", "    ") + "    {{- end }}\n"),
)
"""Configuration in the chart's values; itself a template."""

NAMESPACE: Final = ("  namespace: mom\n", "  namespace: {{ .Release.Namespace }}\n")


def main() -> int:
    """Write all generated files that have changed."""
    for path, text in generated().items():
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


def generated() -> Mapping[Path, str]:
    """Return the texts of the files, by path."""
    config, rules = _read("base/mom.yaml"), _rules()
    subject = ("namespace: mom}", "namespace: {{ .Release.Namespace }}}")
    secrets = ("name: mom-metrics", "name: {{ .Values.metrics.secret }}")
    written = {
        "overlays/enforce/mom.yaml": _with(config, ENFORCE),
        "overlays/offload/mom.yaml": _with(config, OFFLOAD),
        "prometheus/rules.yaml": rules,
        "chart/Chart.yaml": CHART.format(version=version()),
        "chart/values.yaml": VALUES + _indented(_with(config, CHART_CONFIG)),
        "chart/templates/_config.tpl": CONFIG_NAME,
        "chart/templates/config.yaml": CONFIG_MAP,
        "chart/templates/access.yaml": _with(_read("base/access.yaml"), (NAMESPACE, subject)),
        "chart/templates/daemonset.yaml": _with(_read("base/daemonset.yaml"), _daemonset_pairs()),
        "chart/templates/podmonitor.yaml": _only(
            "metrics.enabled", _with(_read("prometheus/podmonitor.yaml"), (NAMESPACE,)).replace(*secrets)
        ),
        "chart/templates/rules.yaml": _only("metrics.enabled", _with(_escaped(rules), (NAMESPACE,))),
    }
    return {FOLDER / name: text for name, text in written.items()}


def version() -> str:
    """mom's rules."""
    return str(tomllib.loads((ROOT / "mom_core/pyproject.toml").read_text())["project"]["version"])


def _read(name: str) -> str:
    return (FOLDER / name).read_text()


def _with(text: str, pairs: Pairs) -> str:
    for old, new in pairs:
        if text.count(old) != 1:
            raise SystemExit(f"{old!r} occurs {text.count(old)} times instead of once in the text that begins with {text[:60]!r}")
        text = text.replace(old, new)
    return text


def _only(value: str, line: str) -> str:
    """Return a template's line that appears if the value is set."""
    indent = " " * (len(line) - len(line.lstrip()))
    return f"{indent}{{{{- if .Values.{value} }}}}\n{line}{indent}{{{{- end }}}}\n"


def _daemonset_pairs() -> Pairs:
    """Differences of the chart's DaemonSet: its values, and the patches of the overlay `offload`."""
    return [
        NAMESPACE,
        (f"image: mom-node:{version()}", "image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"),
        ("imagePullPolicy: IfNotPresent", "imagePullPolicy: {{ .Values.image.pullPolicy }}"),
        (
            "      tolerations: [{operator: Exists}]\n",
            "      {{- with .Values.imagePullSecrets }}\n      imagePullSecrets: {{- toYaml . | nindent 8 }}\n      {{- end }}\n"
            "      tolerations: {{- toYaml .Values.tolerations | nindent 8 }}\n",
        ),
        (
            "          resources:\n            requests: {cpu: 50m, memory: 192Mi}\n"
            "            # No limit of CPU time: a mom that is throttled gives memory back late.\n            limits: {memory: 1Gi}\n",
            "          resources: {{- toYaml .Values.resources | nindent 12 }}\n",
        ),
        ("configMap: {name: mom}", 'configMap: {name: {{ include "mom.config.name" . }}}'),
        ("secretName: mom-metrics", "secretName: {{ .Values.metrics.secret }}"),
        ("DAC_OVERRIDE]", "DAC_OVERRIDE{{ if .Values.offload }}, SYS_NICE{{ end }}]"),
        ("mountPath: /host/cgroup, readOnly: true", "mountPath: /host/cgroup, readOnly: {{ not .Values.offload }}"),
    ]


def _rules() -> str:
    """Return the alert rules for the Prometheus operator; the instance is the node, by the PodMonitor."""
    text = (ROOT / "packaging/prometheus/mom-alerts.yml").read_text()
    _, _, groups = text.partition("groups:\n")
    return RULES + _indented("groups:\n" + groups)


def _escaped(text: str) -> str:
    """Text with braces for Prometheus, escaped for Helm."""
    return re.sub(r"\{\{[^{}]*\}\}", lambda found: "{{ `" + found[0] + "` }}", text)


def _indented(text: str) -> str:
    return "".join(f"  {line}" if line.strip() else line for line in text.splitlines(keepends=True))


WRITTEN: Final = "# Written by packaging/kubernetes/manifests.py.\n"

CHART: Final = (
    WRITTEN
    + """\
apiVersion: v2
name: mom
description: mom, the memory overcommitment manager, on the nodes of a cluster with KubeVirt
type: application
version: {version}
appVersion: "{version}"
kubeVersion: ">=1.25.0-0"
"""
)

VALUES: Final = (
    WRITTEN
    + """\
# observe: only decide and report, and change nothing. enforce: act.
mode: observe
# Move memory that guests no longer touch to the node's swap, if the kubelet lets pods swap (LimitedSwap).
offload: false

# `./run image --node` in a clone of mom builds the image; push it to your nodes' registry.
image:
  repository: mom-node
  tag: ""
  pullPolicy: IfNotPresent
imagePullSecrets: []

# Metrics for Prometheus, with a PodMonitor and alert rules for its operator. Needs a Secret with tls.crt, tls.key, ca.crt and token.
metrics:
  enabled: false
  secret: mom-metrics

tolerations:
  - operator: Exists
resources:
  requests: {cpu: 50m, memory: 192Mi}
  # No limit of CPU time: a mom that is throttled gives memory back late.
  limits: {memory: 1Gi}

# mom's whole configuration; `--set-file config=mom.yaml` replaces it.
config: |
"""
)

CONFIG_NAME: Final = """\
{{- /* Written by packaging/kubernetes/manifests.py.
A changed configuration is a new ConfigMap: a rolling update applies it node by node. */}}
{{- define "mom.config.name" -}}
mom-{{ tpl .Values.config . | sha256sum | trunc 10 }}
{{- end }}
"""

CONFIG_MAP: Final = (
    WRITTEN
    + """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "mom.config.name" . }}
  namespace: {{ .Release.Namespace }}
  labels: {app.kubernetes.io/name: mom}
data:
  mom.yaml: |
    {{- tpl .Values.config . | nindent 4 }}
"""
)

RULES: Final = (
    WRITTEN
    + """\
# From packaging/prometheus/mom-alerts.yml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: mom
  namespace: mom
  labels: {app.kubernetes.io/name: mom}
spec:
"""
)

if __name__ == "__main__":
    sys.exit(main())
