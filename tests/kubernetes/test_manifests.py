"""Manifests for the nodes of a cluster: valid for Kubernetes, and equal for kustomize and Helm."""

import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from mom_core import load_config

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "packaging/kubernetes"
VERSIONS = ("1.25", "1.30", "1.37")
"""Versions: the oldest with maxSurge, one in between, and the newest with published schemas."""

OVERLAYS: Mapping[str, Mapping[str, Any]] = {
    "observe": {"mode": "observe"},
    "enforce": {"mode": "enforce"},
    "offload": {"mode": "enforce", "offload": True},
}
"""Values of the chart that equal an overlay, keyed by overlay."""

HASH = re.compile(r"^mom-[0-9a-z]{10}$")


def kubectl() -> str:
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("there is no kubectl, which has kustomize in it")
    said = json.loads(subprocess.check_output([found, "version", "--client", "--output=json"], text=True, timeout=60))
    if not str(said.get("kustomizeVersion", "")).startswith("v5"):
        pytest.skip(f"the kustomize of {found} is too old")
    return found


def kustomized(folder: str) -> list[dict[str, Any]]:
    written = subprocess.run([kubectl(), "kustomize", KUBERNETES / folder], capture_output=True, text=True, timeout=60, check=False)
    assert written.returncode == 0, written.stderr
    assert not written.stderr, "kustomize warns of what will go"
    return list(yaml.safe_load_all(written.stdout))


def charted(**values: object) -> list[dict[str, Any]]:
    import helm_python

    with helm_python.Chart.load(KUBERNETES / "chart") as chart:
        rendered = chart.render(values=values, name="mom", namespace="mom")
    texts = rendered.values() if isinstance(rendered, Mapping) else [rendered]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def comparable(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return objects keyed by kind, without expected differences.

    These are the hash in a ConfigMap's name, kustomize's common labels, and comment lines of the configuration.
    """
    found: dict[str, Any] = {}
    for one in json.loads(json.dumps(objects, default=str)):
        one["metadata"].pop("labels", None)
        if one["kind"] == "ConfigMap":
            assert HASH.fullmatch(one["metadata"]["name"])
            one["metadata"]["name"] = "mom"
            one["data"]["mom.yaml"] = yaml.safe_load(one["data"]["mom.yaml"])
        if one["kind"] == "DaemonSet":
            (config,) = [volume["configMap"] for volume in one["spec"]["template"]["spec"]["volumes"] if "configMap" in volume]
            assert HASH.fullmatch(config["name"])
            config["name"] = "mom"
        if one["kind"] != "Namespace":
            found[one["kind"]] = one
    return found


def strictly(kind: Any, one: Mapping[str, Any]) -> None:
    """Check an object with a model of a custom resource. Models accept unknown members, but drop them."""
    made = json.loads(kind.model_validate(one).model_dump_json(by_alias=True, exclude_unset=True))
    assert made == one


def check(one: Mapping[str, Any]) -> None:
    """Check objects with the schemas of Kubernetes, or of Prometheus's operator."""
    if one["apiVersion"].startswith("monitoring.coreos.com/"):
        from cloudcoil.models.prometheus_operator import v1

        strictly({"PodMonitor": v1.PodMonitor, "PrometheusRule": v1.PrometheusRule}[one["kind"]], one)
        return
    import kubernetes_validate

    for version in VERSIONS:
        kubernetes_validate.validate(one, version, strict=True)


def test_what_follows_from_the_base_is_what_is_written() -> None:
    for path, text in runpy.run_path(str(KUBERNETES / "manifests.py"))["generated"]().items():
        assert path.read_text() == text, f"{path.relative_to(ROOT)}: .venv/bin/python packaging/kubernetes/manifests.py"


@pytest.mark.processes
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_and_helm_give_the_same_which_kubernetes_takes(overlay: str) -> None:
    by_kustomize, by_helm = kustomized(f"overlays/{overlay}"), charted(**OVERLAYS[overlay])
    for one in (*by_kustomize, *by_helm):
        check(one)
    assert {one["kind"] for one in by_kustomize} == {
        "Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ConfigMap", "DaemonSet",
    }  # fmt: skip
    assert comparable(by_helm) == comparable(by_kustomize)


@pytest.mark.processes
def test_prometheus_and_its_operator_get_the_same_rules_from_both() -> None:
    by_kustomize = kustomized("prometheus")
    by_helm = [one for one in charted(metrics={"enabled": True}) if one["apiVersion"].startswith("monitoring.")]
    for one in (*by_kustomize, *by_helm):
        check(one)
    assert comparable(by_helm) == comparable(by_kustomize)
    groups = yaml.safe_load((ROOT / "packaging/prometheus/mom-alerts.yml").read_text())["groups"]
    assert comparable(by_kustomize)["PrometheusRule"]["spec"]["groups"] == groups


@pytest.mark.long
@pytest.mark.parametrize("values", [*OVERLAYS.values(), {"mode": "enforce", "offload": True, "metrics": {"enabled": True}}])
def test_the_configuration_is_one_that_mom_takes(values: Mapping[str, object], tmp_path: Path) -> None:
    (written,) = [one["data"]["mom.yaml"] for one in charted(**values) if one["kind"] == "ConfigMap"]
    for name in re.findall(r"/etc/mom/metrics/(\S+)", written):
        (tmp_path / name).touch()
    (tmp_path / "mom.yaml").write_text(written.replace("/etc/mom/metrics", str(tmp_path)))
    config = load_config(tmp_path / "mom.yaml")
    assert config.mode == values["mode"]
    assert list(config.plugins)[:3] == ["host", "kubevirt", "balloon"], "the order in the file is that of precedence"
    assert ("offload" in config.plugins) == values.get("offload", False)


@pytest.mark.long
def test_an_operator_may_have_another_image_secret_configuration_and_namespace() -> None:
    objects = {
        one["kind"]: one
        for one in charted(
            image={"repository": "registry.example/mom-node", "tag": "7"}, config="mode: {{ .Values.mode }}\n", mode="enforce"
        )
    }
    spec = objects["DaemonSet"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == "registry.example/mom-node:7"
    assert objects["ConfigMap"]["data"]["mom.yaml"].strip() == "mode: enforce"
    assert spec["volumes"][0]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]


@pytest.mark.long
def test_another_configuration_is_another_configmap_so_that_a_rolling_update_takes_it_along() -> None:
    names = {one["metadata"]["name"] for mode in ("observe", "enforce") for one in charted(mode=mode) if one["kind"] == "ConfigMap"}
    assert len(names) == 2


@pytest.mark.long
def test_a_pod_has_no_more_rights_than_the_page_says() -> None:
    (daemonset,) = [one for one in charted(offload=True) if one["kind"] == "DaemonSet"]
    spec = daemonset["spec"]["template"]["spec"]
    context = spec["containers"][0]["securityContext"]
    assert (context["privileged"], context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, False, True)
    assert context["capabilities"]["drop"] == ["ALL"]
    told = re.findall(r"^\| `CAP_(\w+)`", (ROOT / "docs/kubevirt.md").read_text(), re.M)
    assert context["capabilities"]["add"] == told
    assert {name for name in ("hostNetwork", "hostIPC", "hostUsers") if name in spec} == set()
    hosts = {volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume}
    assert hosts == set(re.findall(r"^\| `(/\S+)` of the node", (ROOT / "docs/kubevirt.md").read_text(), re.M))
