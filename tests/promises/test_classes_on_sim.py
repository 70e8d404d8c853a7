"""Classes at work on a simulated host: who gives, who keeps, and what the policies of the plugin sla set."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mom_core import DefaultPolicy, PluginContext
from mom_core.testing import snapshot
from mom_devkit import PluginRun, declared, run_plugins
from mom_kvm import field_number
from mom_plugins_policy import Policy
from mom_plugins_record.report.command import report
from mom_plugins_sla import SlaPlugin
from mom_plugins_sla.settings import SlaSettings

GIB = 1 << 20
SIM = {
    "guests": 8, "host_memory": "8GiB", "sold": 1.6, "statistics_period": "1s", "load": "3GiB", "load_after": "20s", "load_for": "600s",
}  # fmt: skip
CLASSES = {"web-*": {"class": "platinum"}, "db-*": {"class": "gold"}, "build-*": {"class": "compute"}, "idle-*": {"class": "vapor"}}


def run(folder: Path, **sla: object) -> PluginRun:
    return run_plugins(folder, {"sim": SIM, "balloon": {}, "sla": sla, "policy": {}}, cycles=40, guests=CLASSES)


def kept(found: PluginRun) -> Mapping[str, float]:
    """The least that each class's guests have kept of what they can have, at the end."""
    shares: dict[str, float] = {}
    for guest in found.reports[-1].snapshot.guests.values():
        name = str(guest.fields["sla_class"])
        share = field_number(guest.fields, "balloon_cur") / field_number(guest.fields, "balloon_max")
        shares[name] = min(shares.get(name, 1.0), share)
    return shares


@pytest.mark.parametrize("fair_share", [False, True])
def test_classes_keep_what_they_are_promised_while_others_pay(tmp_path: Path, fair_share: bool) -> None:
    found = run(tmp_path, fair_share=fair_share)
    found.assert_never_below("balloon_cur", "guest_guarantee")
    shares = kept(found)
    assert shares["platinum"] == 1.0
    assert shares["gold"] >= 0.75
    assert min(shares.values()) < 0.75, "somebody pays"
    for guest in found.reports[-1].snapshot.guests.values():
        assert 0 <= field_number(guest.fields, "fair_share", -1) <= field_number(guest.fields, "balloon_max")
    assert not [problem for problem in found.problems if "policy" in problem or "60_fair" in problem]


CLOUD = """
title: A cloud
lasts: 10m
interval: 5s
host: {memory: 8GiB, swap: 1GiB}
guests:
  large: {count: 2, memory: 2GiB, workload: {constant: {use: 30%}}, properties: {flavor: m1.large, project: acme}}
  small: {count: 4, memory: 1GiB, workload: {constant: {use: 30%}}, properties: {flavor: m1.small, project: acme}}
  spot: {count: 2, memory: 2GiB, workload: {constant: {use: 30%}}, properties: {flavor: spot.large, project: ci}}
"""


def test_classes_and_guarantees_go_by_flavor_and_project(tmp_path: Path) -> None:
    (tmp_path / "cloud.yaml").write_text(CLOUD)
    sim = {"scenario": str(tmp_path / "cloud.yaml")}
    guests = {"flavor=m1.*": {"class": "gold"}, "flavor=m1.large": {"guarantee": "100%"}, "project=c?": {"guarantee": "512MiB"}}
    found = run_plugins(tmp_path, {"sim": sim, "balloon": {}, "sla": {"default": "vapor"}, "policy": {}}, cycles=3, guests=guests)
    told = {
        guest.name.rpartition("-")[0]: (guest.fields["sla_class"], field_number(guest.fields, "mem_promised") / GIB)
        for guest in found.reports[-1].snapshot.guests.values()
    }
    assert told == {"large": ("gold", 2.0), "small": ("gold", 0.75), "spot": ("vapor", 0.5)}


def test_a_report_has_a_line_for_each_project(tmp_path: Path) -> None:
    (tmp_path / "cloud.yaml").write_text(CLOUD)
    plugins = {"sim": {"scenario": str(tmp_path / "cloud.yaml")}, "record": {"path": str(tmp_path / "recording")}}
    run_plugins(tmp_path, plugins, cycles=5)
    done = CliRunner().invoke(report, [str(tmp_path / "recording"), "--by", "project", "--json"], catch_exceptions=False)
    assert {line["name"]: line["guests"] for line in json.loads(done.output)["lines"]} == {"acme": 6, "ci": 2}
    done = CliRunner().invoke(report, [str(tmp_path / "recording"), "--by", "guest", "--tenant", "flavor=m1.large", "--csv"])
    assert [line.partition(",")[0] for line in done.output.splitlines()] == ["name", "large-001", "large-002", "all"]


def default_policies(**settings: object) -> dict[str, str]:
    plugin = SlaPlugin(SlaSettings.model_validate(settings), PluginContext(name="sla"))
    return {one.name: one.text for one in declared(plugin, DefaultPolicy)}


def test_without_switches_there_are_no_policies() -> None:
    assert default_policies() == {}


def asked(policy: Policy, host: Mapping[str, Any], **guest: Any) -> dict[str, Any]:
    result = policy.evaluate(snapshot(host=host, guests={"vm": guest}))
    assert list(result.errors) == []
    return {one.control: one.value for one in result.decisions}


GUEST = {"balloon_cur": 4 << 20, "balloon_max": 8 << 20, "balloon_reason": None}


@pytest.mark.parametrize(
    ("lack", "share", "law", "wanted"),
    [
        (1 << 20, 2 << 20, None, 3 << 20),  # half of what it has too much
        (1 << 20, 2 << 20, 1 << 20, 3 << 20),  # the law wants more of it
        (1 << 20, 2 << 20, 5 << 20, 5 << 20),  # it runs out of memory
        (1 << 20, 4 << 20, 3 << 20, 4 << 20),  # it has its fair share, and gives nothing
        (1 << 20, 4 << 20, None, None),
        (0, 2 << 20, 3 << 20, 3 << 20),  # nothing is short: the law decides
        (None, 2 << 20, None, None),
    ],
)
def test_guests_are_held_to_fair_shares_while_the_host_is_short(lack: int | None, share: int, law: int | None, wanted: int | None) -> None:
    texts = default_policies(fair_share=True)
    first = {} if law is None else {"50_law": f'(with Guests g (g.Control "balloon_target" {law}))'}
    found = asked(Policy.compile({**first, **texts}), {"fair_share_lack": lack}, **GUEST, fair_share=share)
    assert found == ({} if wanted is None else {"balloon_target": wanted})


@pytest.mark.parametrize(("reason", "wanted"), [("sweep", 3 << 20), ("trim-empty", 3 << 20), ("trim-cache", 4 << 20), (None, 4 << 20)])
def test_a_guest_below_its_fair_share_gives_only_what_holds_nothing(reason: str | None, wanted: int) -> None:
    texts = {"50_law": f'(with Guests g (g.Control "balloon_target" {3 << 20}))', **default_policies(fair_share=True)}
    found = asked(Policy.compile(texts), {"fair_share_lack": 1 << 20}, **{**GUEST, "balloon_reason": reason}, fair_share=5 << 20)
    assert found == {"balloon_target": wanted}
