"""The plugin: settings, enabling statistics, guests in need, and findings."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_monitors import MIB, FakeHost
from pydantic import ValidationError

from mom_core import PluginContext, Problem, Report, Severity, Snapshot
from mom_core.hypervisor import Hypervisor
from mom_devkit import wait_until
from mom_plugins_qemu import QemuPlugin
from mom_plugins_qemu.hypervisor import QemuHypervisor

Make = Callable[..., QemuPlugin]


@pytest.fixture
def woken() -> list[str]:
    return []


@pytest.fixture
def make(host: FakeHost, woken: list[str]) -> Iterator[Make]:
    made: list[QemuPlugin] = []

    def plugin(**settings: object) -> QemuPlugin:
        mine = QemuPlugin.Settings.model_validate({"sockets": [f"{host.folder}/*.qmp"], "watch": "50ms", **settings})
        made.append(QemuPlugin(mine, PluginContext(name="qemu", wake=woken.append)))
        made[-1].mom_setup()
        return made[-1]

    yield plugin
    for one in made:
        one.mom_teardown()


def of(plugin: QemuPlugin) -> Hypervisor:
    found = plugin.mom_hypervisor()
    assert found is not None
    return found


def seen(plugin: QemuPlugin) -> Snapshot:
    guests = of(plugin).guests()
    fields = plugin.mom_collect_guests(of(plugin), guests)
    return Snapshot(guests={guest.id: replace(guest, fields=fields[guest.id]) for guest in guests})


def test_a_guest_that_comes_short_between_two_cycles_wakes_mom(make: Make, host: FakeHost, woken: list[str]) -> None:
    guest = host.add("web", size=700 * MIB, updated=int(time.time()) - 2)
    guest.reports(usable=400 * MIB)
    plugin = make()
    snapshot = seen(plugin)
    plugin.mom_report(Report(1, 0.0, "enforce", snapshot, [], [], [], [], [], 0.0))
    guest.reports(usable=30 * MIB)
    wait_until(lambda: woken, "a look every 50 ms")
    assert woken[0].startswith("guest web is short of memory: 30 MiB usable of 700 MiB")


def test_doctor_says_what_answers_and_what_does_not(make: Make, host: FakeHost) -> None:
    host.add("web")
    host.add("bare", balloon=False)
    hanging = host.add("hanging")
    plugin = make()
    of(plugin).guests()
    hanging.hangs = True
    said = {(finding.severity, finding.subject): finding.message for finding in plugin.mom_doctor()}
    assert said[Severity.OK, "qemu"] == "2 of 3 guests answer on their monitors"
    assert said[Severity.WARNING, "monitor"] == "1 guest left alone: hanging: its monitor is used by another client, or has hung"
    assert said[Severity.WARNING, "balloon device"] == "1 guest without: bare"


@pytest.mark.parametrize("how", ["no QMP", "a lie"])
def test_a_guest_whose_answers_cannot_be_used_is_a_problem_that_names_it(make: Make, host: FakeHost, how: str) -> None:
    host.add("well")
    guest = host.add("web")
    plugin = make()
    seen(plugin)
    before, web = guest.uuid, next(one for one in of(plugin).guests() if one.name == "web")
    if how == "no QMP":
        guest.says, said = b"hello\n", "its monitor does not speak QMP: an answer is not JSON"
    else:
        guest.memory, said = 1 << 50, "its monitor says that the guest has up to"
        hypervisor = of(plugin)
        assert isinstance(hypervisor, QemuHypervisor)
        for monitored in hypervisor.seen():
            monitored.described_at = float("-inf")
    (problem,) = [one for one in plugin.mom_problems(seen(plugin)) if isinstance(one, Problem)]
    assert (problem.entity, problem.severity) == (web.entity, Severity.WARNING)
    assert problem.message.startswith(said)
    assert any("web" in finding.message and said in finding.message for finding in plugin.mom_doctor())
    assert before == web.id


def test_a_host_with_monitors_is_recognized(tmp_path: Path) -> None:
    assert QemuPlugin.mom_suggest(tmp_path) is None
    (tmp_path / "run/qemu-server").mkdir(parents=True)
    (tmp_path / "run/qemu-server/100.qmp").touch()
    found = QemuPlugin.mom_suggest(tmp_path)
    assert found is not None
    assert found.settings == {"sockets": ["/run/qemu-server/*.qmp"]}


@pytest.mark.parametrize("sockets", [[], ["run/*.qmp"], ["/run/**/*.qmp"], ["/run/\0"], "/run/*.qmp"])
def test_patterns_that_are_none_are_refused(sockets: object) -> None:
    with pytest.raises(ValidationError):
        QemuPlugin.Settings.model_validate({"sockets": sockets})
