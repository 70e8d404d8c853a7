"""The plugin: settings, declarations, statistics period and findings, on a libvirtd in memory and libvirt's test driver."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_libvirt import LONG_SECONDS, FakeLibvirtd, NoLoop
from pydantic import ValidationError

import mom_plugins_libvirt.connection as connection_module
from mom_core import Guest, HypervisorError, PluginContext, Problem, Report, Severity, Snapshot
from mom_devkit import wait_until
from mom_plugins_libvirt import LibvirtPlugin
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor
from mom_plugins_libvirt.plugin import pid_of

PERIOD = "balloon_stats_period"
MakePlugin = Callable[..., LibvirtPlugin]
PATIENT = {"call_timeout": f"{LONG_SECONDS:.0f}s", "deadline": f"{3 * LONG_SECONDS:.0f}s"}


@pytest.fixture
def make_plugin(libvirtd: FakeLibvirtd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MakePlugin]:
    monkeypatch.setattr("mom_plugins_libvirt.binding", lambda: libvirtd)
    monkeypatch.setattr(connection_module, "EventLoop", NoLoop)
    monkeypatch.setattr("mom_plugins_libvirt.plugin._DESCRIBE_SECONDS", LONG_SECONDS)  # all in the first cycle
    made: list[LibvirtPlugin] = []

    def make(*, serves: bool = True, **settings: object) -> LibvirtPlugin:
        checked = LibvirtPlugin.Settings.model_validate({**PATIENT, **settings})
        plugin = LibvirtPlugin(checked, PluginContext(name="libvirt", root=tmp_path, serves=serves))
        plugin.mom_setup()
        made.append(plugin)
        return plugin

    yield make
    for plugin in made:
        plugin.mom_teardown()


def own(plugin: LibvirtPlugin) -> LibvirtHypervisor:
    found = plugin.mom_hypervisor()
    assert isinstance(found, LibvirtHypervisor)
    return found


def test_defaults_are_sensible_and_nonsense_is_refused():
    settings = LibvirtPlugin.Settings()
    assert (settings.uri, settings.stats_period) == ("qemu:///system", 1.0)
    off = LibvirtPlugin.Settings.model_validate({"stats_period": "0s", "watch": "0s"})
    assert (off.stats_period, off.watch) == (0, 0)
    for wrong in ({"stats_period": "500ms"}, {"stats_period": "2h"}, {"call_timeout": "3s"}, {"watch": "10ms"}):
        with pytest.raises(ValidationError):
            LibvirtPlugin.Settings.model_validate(wrong)
    assert LibvirtPlugin.Settings.model_validate({"call_timeout": "3s", "deadline": "10s"}).call_timeout == 3


def test_it_suggests_itself_where_libvirt_listens(tmp_path):
    assert LibvirtPlugin.mom_suggest(tmp_path) is None
    (tmp_path / "run" / "libvirt").mkdir(parents=True)
    (tmp_path / "run" / "libvirt" / "virtqemud-sock").touch()
    suggestion = LibvirtPlugin.mom_suggest(tmp_path)
    assert suggestion is not None
    assert LibvirtPlugin.Settings.model_validate(dict(suggestion.settings))


def test_statistics_are_switched_on_only_where_they_are_off(make_plugin):
    def guest(name: str, period: int | None, **blocked: str) -> Guest:
        return Guest(name, name, {} if period is None else {PERIOD: period}, blocked=blocked)

    guests = [
        guest("off", 0), guest("on", 5), guest("unknown", None), guest("blocked", 0, **{PERIOD: "no"}), guest("all", 0, **{"*": "no"}),
    ]  # fmt: skip
    snapshot = Snapshot(guests={found.id: found for found in guests})
    decisions = list(make_plugin().mom_act(snapshot))
    assert [(decision.entity.id, decision.control, decision.value, str(decision.source)) for decision in decisions] == [
        ("off", PERIOD, 1, "libvirt")
    ]
    assert list(make_plugin(stats_period="0s").mom_act(snapshot)) == []
    many = Snapshot(guests={str(number): guest(str(number), 0) for number in range(500)})
    assert 0 < len(list(make_plugin().mom_act(many))) <= 50, "the rest waits for the next cycles"


def test_the_doctor_advises_nothing_that_a_guest_has_or_cannot_use_and_says_whose_memory_cannot_be_had(make_plugin, libvirtd):
    libvirtd.add("has").model = "virtio' autodeflate='on' freePageReporting='on"
    libvirtd.add("bare").model = "none"
    libvirtd.add("given").devices = "<hostdev mode='subsystem' type='pci'/>"
    for name in ("one", "two"):
        libvirtd.add(name).more = "<memoryBacking><locked/></memoryBacking>"
    findings = list(make_plugin().mom_doctor())
    assert not {"free page reporting", "autodeflate"} & {finding.subject for finding in findings}
    assert {finding.message for finding in findings if finding.subject == "pinned memory"} == {
        "2 guests with a fixed size: one, two: the guest's memory is locked: the host cannot reclaim it",
        "1 guest with a fixed size: given: a host device (pci) pins the guest's memory: the host cannot reclaim it",
    }


def test_guests_that_cannot_be_relied_on_are_counted_and_said_in_the_same_words_each_time(make_plugin, libvirtd):
    plugin = make_plugin()
    hypervisor = own(plugin)
    liar = libvirtd.add("liar")
    said, hints = [], []
    for second, lie in enumerate(("unused", "usable")):
        liar.statistics |= {"balloon.last-update": int(time.time()) + second, "balloon.unused": 0, f"balloon.{lie}": 1 << 40}
        snapshot = Snapshot(guests={guest.id: guest for guest in hypervisor.guests()})
        problems = [item for item in plugin.mom_problems(snapshot) if isinstance(item, Problem)]
        said += [(item.entity, item.message) for item in problems]
        hints += [item.hint for item in problems]
    assert plugin.mom_collect_host(hypervisor) == {"guests_silent": 0, "guests_distrusted": 1}
    assert said[0] == said[1], "a guest that finds another lie each time fills no log"
    assert hints == [f"its balloon driver is broken or reports false values: {name}" for name in ("mem_unused", "mem_usable")]


def test_a_guest_whose_description_cannot_be_understood_is_a_problem_and_a_finding_that_name_it(make_plugin, libvirtd):
    libvirtd.add("well")
    libvirtd.add("odd").more = "</domain>"
    plugin = make_plugin()
    snapshot = Snapshot(guests={guest.id: guest for guest in own(plugin).guests()})
    (problem,) = [item for item in plugin.mom_problems(snapshot) if isinstance(item, Problem)]
    assert (problem.entity, problem.severity) == (libvirtd.guests["uuid-of-odd"].entity, Severity.WARNING)
    assert problem.message == "the guest's description is invalid: it is not a domain XML"
    (finding,) = [finding for finding in plugin.mom_doctor() if finding.subject == "description"]
    assert finding.severity is Severity.WARNING
    assert finding.message.startswith("1 guest with an invalid description: odd: it is not a domain XML")


@pytest.mark.parametrize("serves", [True, False])
def test_only_where_there_is_no_next_cycle_all_descriptions_are_read_at_once(libvirtd, make_plugin, monkeypatch, serves):
    monkeypatch.setattr("mom_plugins_libvirt.plugin._DESCRIBE_SECONDS", 0.0)
    guest = libvirtd.add("g")
    hypervisor = own(make_plugin(serves=serves))
    assert bool(hypervisor.io_tunes([guest.entity])) is not serves


def test_at_the_end_no_connection_is_left_open_not_even_the_one_by_which_guests_are_watched(libvirtd, make_plugin):
    guest = libvirtd.add("db")
    guest.current //= 2
    plugin = make_plugin(watch="50ms")
    own(plugin).guests()
    fields = {"balloon_cur": guest.current, "balloon_max": guest.maximum, "mem_usable": 200 << 10}
    seen = Snapshot(guests={guest.uuid: Guest(guest.uuid, guest.name, fields)})
    plugin.mom_report(Report(1, 0.0, "enforce", seen, [], [], [], [], [], 0.0))
    wait_until(lambda: len(libvirtd.connections) == 2)
    plugin.mom_teardown()
    wait_until(lambda: all(connection.closed for connection in libvirtd.connections))


def test_a_binding_that_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "libvirt", None)
    with pytest.raises(HypervisorError, match="libvirt-python"):
        LibvirtPlugin(LibvirtPlugin.Settings(), PluginContext()).mom_setup()


# --- guests' processes ----------------------------------------------------------------------------------------------------

UUID = "c0c1f094-e0eb-461c-82d5-fd2a0fe0d115"


def process(proc: Path, pid: int, uuid: str = UUID) -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "cmdline").write_bytes(b"\0".join([b"qemu-system-x86_64", b"-name", b"guest=x", b"-uuid", uuid.encode(), b""]))


def pid_file(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.pid").write_text(text)


def test_another_guests_process_does_not_count(tmp_path: Path) -> None:
    process(tmp_path / "proc", 4711, "another")
    pid_file(tmp_path / "run", "web", "4711")
    assert pid_of(tmp_path / "run", tmp_path / "proc", "web", UUID) is None
    assert pid_of(tmp_path / "run", tmp_path / "proc", "none", UUID) is None


@pytest.mark.parametrize("name", ["../evil", "/evil", "..", ".", "", "x\0y", "n" * 5000, "\ud800"])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    process(tmp_path / "proc", 4711)
    pid_file(tmp_path, "evil", "4711")
    pid_file(tmp_path / "run", "web", "4711")
    assert pid_of(tmp_path / "run", tmp_path / "proc", name, UUID) is None
