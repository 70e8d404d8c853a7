"""What SECURITY.md, the threat model and the answers for the OpenSSF badge say is so:
privileges are the units', and links lead to what they name."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
ADDRESS = tomllib.loads((ROOT / "mom_core/pyproject.toml").read_text())["project"]["urls"]["Homepage"]
MODEL = (ROOT / "docs/threat-model.md").read_text()


def test_the_page_of_the_threat_model_gives_each_unit_the_privileges_that_it_has() -> None:
    rows = [row.split("|")[1:-1] for row in MODEL.splitlines() if row.startswith("| `mom") and ".service`" in row and row.count("|") == 6]
    told = {name: row for row in rows for name in re.findall(r"`([\w-]+)\.service`", row[0])}
    assert told.keys() == {path.stem for path in (ROOT / "packaging").glob("*.service")}
    for name, (_, user, capabilities, writes, talks) in told.items():
        unit = (ROOT / f"packaging/{name}.service").read_text()

        def values(key: str, unit: str = unit) -> list[str]:
            return [word for line in re.findall(rf"^{key}=(.*)$", unit, re.M) for word in line.split()]

        assert user.strip().strip("`") == (values("User") or ["root"])[0]
        assert set(re.findall(r"CAP_\w+", capabilities)) == set(values("CapabilityBoundingSet"))
        folders = [*(f"/var/lib/{one}" for one in values("StateDirectory")), *(f"/run/{one}" for one in values("RuntimeDirectory"))]
        paths = {*folders, *(path.removeprefix("-") for path in values("ReadWritePaths"))}
        assert set(re.findall(r"`(/[^`]*)`", writes)) == paths
        assert ("control groups" in writes) == (values("ProtectControlGroups") != ["yes"])
        assert ("the network" in talks) == ("AF_INET" in values("RestrictAddressFamilies"))


def test_the_page_of_the_threat_model_gives_the_daemonset_the_privileges_that_it_has() -> None:
    (row,) = (row.split("|")[1:-1] for row in MODEL.splitlines() if row.startswith("| DaemonSet `mom`"))
    pod = yaml.safe_load((ROOT / "packaging/kubernetes/base/daemonset.yaml").read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    patches = yaml.safe_load((ROOT / "packaging/kubernetes/overlays/offload/kustomization.yaml").read_text())["patches"]
    added = re.findall(r"capabilities/add/-, value: (\w+)", patches[0]["patch"])
    always, _, with_offload = row[2].partition("overlay `offload`:")
    assert set(re.findall(r"CAP_(\w+)", always)) == set(container["securityContext"]["capabilities"]["add"])
    assert re.findall(r"CAP_(\w+)", with_offload) == added
    writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    folders = {volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume and volume["name"] in writable}
    assert set(re.findall(r"`(/[^`]*)`", row[3])) == folders
    assert ("hostPID" in row[1], "root" in row[1]) == (pod["hostPID"], container["securityContext"]["runAsUser"] == 0)


def test_a_hole_is_told_in_private_and_the_way_is_found_from_where_one_looks() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    assert f"{ADDRESS}/security/advisories/new" in text
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert {"Supported versions", "What is in scope", "What is not"} <= set(headings)
    assert "](SECURITY.md)" in (ROOT / "CONTRIBUTING.md").read_text()
    assert "](../SECURITY.md)" in MODEL
