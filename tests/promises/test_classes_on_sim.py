"""Service classes on a simulated host: which guests shrink, and which values the policies of the plugin sla set."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner

from mom_devkit import PluginRun, run_plugins
from mom_plugins_record.report.command import report

GIB = 1 << 20
SIM = {
    "guests": 8, "host_memory": "8GiB", "sold": 1.6, "statistics_period": "1s", "load": "3GiB", "load_after": "20s", "load_for": "600s",
}  # fmt: skip
CLASSES = {"web-*": {"class": "platinum"}, "db-*": {"class": "gold"}, "build-*": {"class": "compute"}, "idle-*": {"class": "vapor"}}


def run(folder: Path, **sla: object) -> PluginRun:
    return run_plugins(folder, {"sim": SIM, "balloon": {}, "sla": sla, "policy": {}}, cycles=40, guests=CLASSES)


def kept(found: PluginRun) -> Mapping[str, float]:
    """Return the least ratio of size to maximum in each class, at the end."""
    shares: dict[str, float] = {}
    for guest in found.reports[-1].snapshot.guests.values():
        name = str(guest.fields["sla_class"])
        share = (guest.number("balloon_cur") or 0.0) / (guest.number("balloon_max") or math.nan)
        shares[name] = min(shares.get(name, 1.0), share)
    return shares


def test_classes_keep_what_they_are_promised_while_others_pay(tmp_path: Path) -> None:
    found = run(tmp_path)
    found.assert_never_below("balloon_cur", "guest_guarantee")
    shares = kept(found)
    assert shares["platinum"] == 1.0
    assert shares["gold"] >= 0.75
    assert min(shares.values()) < 0.75, "somebody pays"
    assert not [problem for problem in found.problems if "policy" in problem]


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
        guest.name.rpartition("-")[0]: (guest.fields["sla_class"], (guest.number("mem_promised") or 0.0) / GIB)
        for guest in found.reports[-1].snapshot.guests.values()
    }
    assert told == {"large": ("gold", 2.0), "small": ("gold", 0.75), "spot": ("vapor", 0.5)}


def test_a_report_has_a_line_for_each_project(tmp_path: Path) -> None:
    (tmp_path / "cloud.yaml").write_text(CLOUD)
    plugins = {"sim": {"scenario": str(tmp_path / "cloud.yaml")}, "record": {"path": str(tmp_path / "recording")}}
    run_plugins(tmp_path, plugins, cycles=5)
    done = CliRunner().invoke(report, [str(tmp_path / "recording"), "--by", "project", "--json"], catch_exceptions=False)
    assert {line["name"]: line["guests"] for line in json.loads(done.output)["lines"]} == {"acme": 6, "ci": 2}
    done = CliRunner().invoke(report, [str(tmp_path / "recording"), "--by", "guest", "--tenant", "flavor=m1.large", "--json"])
    assert [line["name"] for line in json.loads(done.output)["lines"]] == ["large-001", "large-002"]
