"""Policies in Python: beside the policy language, on the simulator, and the examples of the page."""

import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mom_core import Decision, DefaultPolicy, PluginContext
from mom_core.testing import snapshot
from mom_daemon import declarations_of
from mom_devkit import PluginRun, declared, run_plugins
from mom_plugins_host.qos import QosPlugin
from mom_plugins_host.qos.settings import QosSettings
from mom_plugins_policy import Policy
from mom_plugins_policy.notes import NoteStore
from mom_plugins_policy.python import PypolicyPlugin

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/policies/python"
DECLARED = declarations_of()


def folder_with(tmp_path: Path, name: str, text: str) -> str:
    folder = tmp_path / "pypolicy.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return str(folder)


# --- the example of a default policy --------------------------------------------------------------------------------------------


LIMITS: dict[str, list[Any]] = {
    "vcpu_user_limit": [None, 0.01, 10.0, 50.0, 99.5, 100.0, 250.0],
    "vcpu_quota": [None, -1, 1000, 25_000, 50_000.4],
    "vcpu_period": [None, 100_000, 1_000_000],
    "vcpu_count": [None, 0, 1, 2, 16],
}


def test_the_example_decides_what_the_default_policy_decides(tmp_path: Path) -> None:
    qos = QosPlugin(QosSettings(cpu_limits=True), PluginContext(name="qos"))
    default = Policy.compile({one.name: one.text for one in declared(qos, DefaultPolicy) if "cpu" in one.name}, DECLARED)
    notes, context = NoteStore(), PluginContext(name="pypolicy", state_directory=tmp_path, declarations=DECLARED)
    folder = folder_with(tmp_path, "60.py", (EXAMPLES / "60_cpu_limits.py").read_text())
    python = PypolicyPlugin(PypolicyPlugin.Settings(directory=Path(folder)), context)
    python.mom_setup()
    choose = random.Random(1)  # noqa: S311  # limits are no secrets
    decided = 0
    for _ in range(500):
        guests = {name: {field: choose.choice(values) for field, values in LIMITS.items() if choose.random() < 0.8} for name in "ab"}
        seen = snapshot(host={"cpu_count": choose.choice([1, 8, None])}, guests=guests)
        found = [one for one in python.mom_evaluate(seen, ()) if isinstance(one, Decision)]
        expected = {(one.entity, one.control): one.value for one in default.evaluate_with(notes, seen, ()).decisions}
        assert {(one.entity, one.control): one.value for one in found} == expected
        decided += len(expected)
    assert decided > 100


# --- on the simulator ----------------------------------------------------------------------------------------------------------------


EXAMPLE = (EXAMPLES / "50_balloon.py").read_text()


def simulated(
    tmp_path: Path, cycles: int, text: str = EXAMPLE, *, first: str = "pypolicy", policies: Mapping[str, str] | None = None, **more: str
) -> PluginRun:
    folder = folder_with(tmp_path, "50_balloon.py", text)
    evaluators: dict[str, Mapping[str, object]] = {"pypolicy": {"directory": folder, **more}}
    if policies is not None:
        evaluators["policy"] = {"defaults": False, "directory": str(tmp_path / "run" / "policy.d")}
    order = sorted(evaluators, key=lambda name: name != first)
    plugins: dict[str, type | Mapping[str, object]] = {"sim": {}, **{name: evaluators[name] for name in order}, "balloon": {}}
    (tmp_path / "run").mkdir(parents=True)
    return run_plugins(tmp_path / "run", plugins, cycles=cycles, policies=policies)


def test_a_first_policy_in_python_brings_a_host_that_is_short_out_of_it(tmp_path: Path) -> None:
    run = simulated(tmp_path, 40)
    assert run.problems == []
    first, last = (run.reports[number].snapshot.host for number in (0, -1))
    assert (first.number("mem_really_available") or 0) < 0.2 * (first.number("mem_available") or 0)
    assert (last.number("mem_really_available") or 0) > 1.1 * (first.number("mem_really_available") or 0)
    assert len(run.applied("balloon_target")) > 20
    (reason,) = {re.sub(r"[0-9][0-9,]*", "N", one.reason) for report in run.reports for one in report.decisions}
    assert reason == "the host has N% available, and N MiB are usable in it"


GIVES_ALL_A_TENTH = """
(with Guests guest (if (valid guest.balloon_cur) (guest.Control "balloon_target" (* 0.9 guest.balloon_cur)) nil))
"""


@pytest.mark.parametrize("first", ["policy", "pypolicy"])
def test_of_two_evaluators_the_first_in_the_configuration_has_a_control_that_both_decide(tmp_path: Path, first: str) -> None:
    run = simulated(tmp_path, 3, first=first, policies={"50_balloon_": GIVES_ALL_A_TENTH})
    second = "policy" if first == "pypolicy" else "pypolicy"
    by = {"policy": "50_balloon_", "pypolicy": "50_balloon.py"}
    kept = {(outcome.decision.entity, outcome.decision.source.name) for report in run.reports[:1] for outcome in report.outcomes}
    contested = {one.entity for one in run.reports[0].decisions if one.source.name == by["pypolicy"]}
    assert contested
    assert {name for entity, name in kept if entity in contested} == {by[first]}
    dropped = [one for report in run.reports for one in report.revisions if one.after is None]
    assert {one.before.source.name for one in dropped} == {by[second]}
    assert all(f"the {first} plugin is listed before {second}" in one.reason for one in dropped)
    said = f"core: {first} and {second} both decide balloon_target: mom follows {first}, which is listed first under `plugins`"
    assert any(problem.startswith(said) for problem in run.problems)


# --- the page -------------------------------------------------------------------------------------------------------------------------


def test_the_readmes_policy_decides_what_the_example_decides(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python-policies.md").read_text(), re.DOTALL)
    written, read = simulated(tmp_path / "example", 10), simulated(tmp_path / "shown", 10, shown)
    assert read.decided("balloon_target") == written.decided("balloon_target") != []
