"""What SECURITY.md, the threat model and the answers for the OpenSSF badge say is so:
privileges are the units', and links lead to what they name."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ADDRESS = tomllib.loads((ROOT / "mom_core/pyproject.toml").read_text())["project"]["urls"]["Homepage"]
MODEL = (ROOT / "docs/threat-model.md").read_text()
ANSWERS = json.loads((ROOT / ".bestpractices.json").read_text())

PASSING = """
description_good interact contribution contribution_requirements floss_license floss_license_osi license_location documentation_basics
documentation_interface sites_https discussion english maintained repo_public repo_track repo_interim repo_distributed version_unique
version_semver version_tags release_notes release_notes_vulns report_process report_tracker report_responses enhancement_responses
report_archive vulnerability_report_process vulnerability_report_private vulnerability_report_response build build_common_tools
build_floss_tools test test_invocation test_most test_continuous_integration test_policy tests_are_added tests_documented_added warnings
warnings_fixed warnings_strict know_secure_design know_common_errors crypto_published crypto_call crypto_floss crypto_keylength
crypto_working crypto_weaknesses crypto_pfs crypto_password_storage crypto_random delivery_mitm delivery_unsigned
vulnerabilities_fixed_60_days vulnerabilities_critical_fixed no_leaked_credentials static_analysis static_analysis_common_vulnerabilities
static_analysis_fixed static_analysis_often dynamic_analysis dynamic_analysis_unsafe dynamic_analysis_enable_assertions
dynamic_analysis_fixed
"""
"""The criteria of the level `passing` (criteria/criteria.yml of the badge's own repository)."""


def test_each_question_of_the_badge_is_answered() -> None:
    assert {f"{name}_status" for name in PASSING.split()} <= ANSWERS.keys()
    assert (ROOT / ".bestpractices.json").stat().st_size < 50_000, "more is not read"
    assert (ANSWERS["homepage_url"], ANSWERS["repo_url"]) == (ADDRESS, ADDRESS)


@pytest.mark.parametrize("name", [key.removesuffix("_status") for key in ANSWERS if key.endswith("_status")])
def test_an_answer_has_its_reason_and_a_link_to_what_shows_it(name: str) -> None:
    status, why = ANSWERS[f"{name}_status"], ANSWERS[f"{name}_justification"]
    links = re.findall(r"https://\S+", why)
    assert status in {"Met", "N/A", "?"}
    assert links or status == "?", "what cannot be shown is not claimed"
    for link in links:
        assert link.startswith(f"{ADDRESS}/blob/main/")
        assert (ROOT / link.removeprefix(f"{ADDRESS}/blob/main/")).is_file(), link


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
