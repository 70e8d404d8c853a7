"""The plugin: which agents it asks, its fields, and that no cycle waits for a guest."""

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from agent_servers import FILES, MEMINFO, Guestd, QemuAgent, silent, without_end
from click.testing import CliRunner
from pydantic import ValidationError

from mom_core import (
    Decision,
    Entity,
    Guest,
    GuestBusy,
    GuestSettings,
    Host,
    HypervisorError,
    NotSupported,
    Outcome,
    PluginContext,
    Report,
    Severity,
    Snapshot,
    Status,
    Value,
    as_number,
)
from mom_devkit import FakeHypervisor, host_of, wait_until
from mom_plugins_guestagent import AgentAccess, GuestAgentPlugin, guestd
from mom_plugins_guestagent.collector import AgentCollector, AgentState, AgentTarget
from mom_plugins_guestagent.fields import STATISTICS
from mom_plugins_guestagent.guestd import REPORTING, Relief
from mom_plugins_guestagent.script import guestd_script
from mom_plugins_guestagent.ways import AgentAddress, AgentKind

LONG_SECONDS = 60.0
"""Longer than any call here that does not hang, also on a busy machine."""

PERIOD_SECONDS = 0.2
"""Polling period in these tests. Operators can set at least a second, but tests wait for several periods."""


def guest(name: str, incarnation: str = "1") -> Guest:
    return Guest(f"uuid-of-{name}", name, incarnation=incarnation)


class Hypervisor:
    """Hypervisor with guests' channels, some with an agent."""

    uri = "fake:///system"

    def __init__(self) -> None:
        self.channels: dict[str, dict[str, str]] = {}
        self.agents: dict[str, QemuAgent] = {}
        self.hangs: threading.Event | None = None
        self.threads: set[str] = set()

    def guests(self) -> Sequence[Guest]:
        return [Guest(identity, identity.removeprefix("uuid-of-")) for identity in self.channels]

    def agent_channels(self, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, str]]:
        return {each.id: self.channels[each.id] for each in guests if each.id in self.channels}

    def agent_command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        self.threads.add(threading.current_thread().name)
        if self.hangs is not None and guest.id not in self.agents:
            self.hangs.wait(timeout_seconds)
            raise GuestBusy("no answer")
        if guest.id not in self.agents:
            raise NotSupported("no agent")
        return self.agents[guest.id].answer(command.encode()).decode()


Make = Callable[..., GuestAgentPlugin]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[GuestAgentPlugin] = []

    def plugin(per_guest: Mapping[str, Mapping[str, object]] | None = None, **settings: object) -> GuestAgentPlugin:
        def guest_settings(guest: Guest) -> GuestSettings:
            return GuestAgentPlugin.GuestSettings.model_validate((per_guest or {}).get(guest.name, {}))

        mine = GuestAgentPlugin.Settings.model_validate(settings)
        often = mine if "period" in settings else mine.model_copy(update={"period": PERIOD_SECONDS})
        made.append(GuestAgentPlugin(often, PluginContext(name="guestagent", guest_settings=guest_settings)))
        made[-1].mom_setup()
        return made[-1]

    yield plugin
    for each in made:
        each.mom_teardown()
    wait_until(lambda: not any(thread.name.startswith("guestagent") for thread in threading.enumerate()))


@pytest.fixture
def hypervisor(socket_of_agent: str) -> Hypervisor:
    """Return a hypervisor whose guest a has an agent on a socket."""
    made = Hypervisor()
    assert isinstance(made, AgentAccess)
    made.channels["uuid-of-a"] = {"org.qemu.guest_agent.1": socket_of_agent}
    return made


def states_of(plugin: GuestAgentPlugin) -> Mapping[str, AgentState]:
    assert plugin._collector is not None
    return plugin._collector.states()


def fields_of(plugin: GuestAgentPlugin, hypervisor: Hypervisor, *guests: Guest) -> Mapping[str, Value]:
    """Return the fields of the first guest."""
    return plugin.mom_collect_guests(hypervisor, guests).get(guests[0].id, {})


def fields_once_known(plugin: GuestAgentPlugin, hypervisor: Hypervisor, *guests: Guest, name: str = "mem_available") -> Mapping[str, Value]:
    """Wait until the first guest has the field `name`, and return its fields."""

    def known() -> Mapping[str, Value] | None:
        found = fields_of(plugin, hypervisor, *guests)
        return found if found.get(name) is not None else None

    return wait_until(known)


def test_nobody_waits_for_guests(make, hypervisor, servers, monkeypatch):
    monkeypatch.setattr("mom_plugins_guestagent.collector.TIMEOUT_SECONDS", 0.5)
    hypervisor.hangs = threading.Event()
    path = servers.unix(silent)
    for number in range(50):
        hypervisor.channels[f"uuid-of-hung{number}"] = {"org.mom.guestd.0": path, "org.qemu.guest_agent.0": ""}
    hypervisor.channels["uuid-of-well"] = {"org.mom.guestd.0": servers.unix(without_end(b"x")), "org.qemu.guest_agent.0": ""}
    hypervisor.agents["uuid-of-well"] = QemuAgent()
    plugin = make()
    guests = [guest("well"), *(guest(f"hung{number}") for number in range(50))]
    assert fields_once_known(plugin, hypervisor, *guests)["guest_agent"] == "agent-hypervisor"
    assert states_of(plugin)["uuid-of-hung0"].sample is None, "it still hangs"
    hypervisor.hangs.set()


def test_what_is_too_old_is_unknown_and_its_age_is_not(make, hypervisor, agent, monkeypatch):
    monkeypatch.setattr("mom_plugins_guestagent.collector.TIMEOUT_SECONDS", 0.5)
    plugin = make()
    fields_once_known(plugin, hypervisor, guest("a"))
    agent.hangs_up = True

    wait_until(lambda: "mem_available" not in fields_of(plugin, hypervisor, guest("a")))
    fields = fields_of(plugin, hypervisor, guest("a"))
    assert (as_number(fields["guest_agent_age"]) or 0.0) >= 1.1
    assert "guest_agent" not in fields
    assert fields["guest_os"] == "Debian GNU/Linux 12"
    wait_until(lambda: fields_of(plugin, hypervisor, guest("a")).get("guest_agent_failures"))


def test_sockets_can_be_named_where_the_hypervisor_knows_none(make, servers, tmp_path):
    daemon = Guestd(tmp_path / "root")
    plugin = make({"a": {"guestd_socket": servers.unix(daemon.speak)}, "b": {"agent_socket": servers.unix(QemuAgent().speak)}})
    both = [guest("a"), guest("b")]
    wait_until(lambda: ["mem_available" in fields for fields in plugin.mom_collect_guests(FakeHypervisor(), both).values()] == [True, True])


# --- false answers
# ----------------------------------------------------------------------------------------------------------------------------


LYING = MEMINFO.replace("300000", "9300000")
GUEST_A = Snapshot(guests={"uuid-of-a": guest("a")})


def report_of(*guests: Guest) -> Report:
    return Report(1, 0.0, "observe", Snapshot(guests={each.id: each for each in guests}), (), (), (), (), (), 0.0)


def test_a_guest_that_lies_is_not_believed_and_that_is_said_and_counted(make, hypervisor, agent):
    agent.files["/proc/meminfo"] = LYING
    plugin = make()
    fields = fields_once_known(plugin, hypervisor, guest("a"), name="guest_load_1")
    assert not {"mem_available", "mem_unused", "mem_free"} & fields.keys()
    assert fields["swap_total"] == 200000
    (problem,) = plugin.mom_problems(GUEST_A)
    assert problem.entity == guest("a").entity
    assert problem.severity is Severity.WARNING
    assert "mem_unused is larger than the guest's total memory" in problem.hint
    wait_until(lambda: fields_of(plugin, hypervisor, guest("a")).get("guest_agent_untrusted") not in {None, 0, 1})
    agent.files["/proc/meminfo"] = MEMINFO
    fields_once_known(plugin, hypervisor, guest("a"))
    assert list(plugin.mom_problems(GUEST_A)) == []


def test_a_guest_has_no_more_memory_than_its_hypervisor_gives_it(make, hypervisor, agent):
    plugin = make()
    plugin.mom_report(report_of(Guest("uuid-of-a", "a", {"balloon_max": 500_000}, incarnation="1"), guest("b")))
    fields = fields_once_known(plugin, hypervisor, guest("a"), name="guest_load_1")
    assert "mem_available" not in fields
    plugin.mom_report(report_of(Guest("uuid-of-a", "a", {"balloon_max": 1 << 20}, incarnation="1")))
    fields_once_known(plugin, hypervisor, guest("a"))


SILENT, TELLING = "the guest's balloon driver has never answered", {"stats_age": 1.0, "balloon_stats_period": 2}
AWAITED = Guest("uuid-of-a", "a", {"balloon_stats_period": 0}, incarnation="1")
NOT_ALONE: Mapping[str, Report] = {
    "its driver tells": report_of(Guest("uuid-of-a", "a", TELLING, incarnation="1")),
    "the guests were unknown": report_of(),
    "it was not listed": report_of(guest("b")),
    "it was started anew": report_of(guest("a", "0")),
    "its driver is to begin": report_of(Guest("uuid-of-a", "a", {"balloon_stats_period": 2}, incarnation="1")),
    "its driver was just switched on": replace(
        report_of(AWAITED), outcomes=[Outcome(Decision(AWAITED.entity, "balloon_stats_period", 2), 0, 2, Status.APPLIED)]
    ),
}


@pytest.mark.parametrize("report", NOT_ALONE.values(), ids=NOT_ALONE)
def test_statistics_of_an_agent_never_stand_beside_the_age_of_the_balloon_drivers(make, hypervisor, report, monkeypatch):
    """An agent's figure from a minute ago would count as a second old, and mom would shrink the guest below its present need."""
    monkeypatch.setattr("mom_plugins_guestagent.collector.TIMEOUT_SECONDS", LONG_SECONDS)
    plugin = make()
    plugin.mom_report(report_of(guest("a")))
    fields_once_known(plugin, hypervisor, guest("a"), name="mem_usable")
    plugin.mom_report(report)
    fields = fields_of(plugin, hypervisor, guest("a"))
    assert not STATISTICS & fields.keys()
    assert {"mem_free", "swap_usage", "guest_psi_memory_some_avg10", "guest_agent"} <= fields.keys()


# --- a host that is short of memory -----------------------------------------------------------------------------------------------


def short_report(*guests: Guest, state: str | None = "soft", mode: str = "enforce") -> Report:
    host = Host(fields={} if state is None else {"host_memory_state": state})
    return Report(1, 0.0, mode, Snapshot(host=host, guests={each.id: each for each in guests}), (), (), (), (), (), 0.0)


@pytest.fixture
def helping(servers, hypervisor, tmp_path) -> Guestd:
    """Return a mom-guestd of guest a that may help the host."""
    host_of(tmp_path / "root", {REPORTING: "9\n"})
    daemon = Guestd(tmp_path / "root", Relief(str(tmp_path / "root"), 2))
    hypervisor.channels["uuid-of-a"] = {"org.mom.guestd.0": servers.unix(daemon.speak)}
    return daemon


def test_guests_are_told_as_long_as_the_host_is_short_of_memory(make, hypervisor, helping):
    plugin = make(tell_short=True)
    fields = fields_once_known(plugin, hypervisor, guest("a"), name="guest_short_left")
    assert (fields["guest_reporting_order"], fields["guest_short_left"]) == (9, 0)
    plugin.mom_report(short_report(guest("a")))
    wait_until(lambda: fields_of(plugin, hypervisor, guest("a")).get("guest_reporting_order") == 2)
    left = as_number(fields_of(plugin, hypervisor, guest("a"))["guest_short_left"]) or 0.0
    assert 0 < left <= 4, "for three periods and a timeout"
    assert "reporting_order:9\n" in helping.guest.answer("short 0 x")
    plugin.mom_report(short_report(guest("a"), state="high"))
    plugin.mom_report(short_report(guest("a")))
    wait_until(lambda: "reporting_order:2\n" in helping.guest.answer("stats x"))


@pytest.mark.parametrize(
    ("settings", "report"),
    [
        ({}, short_report(guest("a"))),
        ({"tell_short": True}, short_report(guest("a"), state="high")),
        ({"tell_short": True}, short_report(guest("a"), mode="observe")),
        ({"tell_short": True}, short_report(Guest("uuid-of-a", "a", {"balloon_reporting": 0}))),
    ],
)
def test_who_need_not_know_is_told_nothing(make, hypervisor, helping, settings, report):
    plugin = make(**settings)
    plugin.mom_report(report)
    fields_once_known(plugin, hypervisor, guest("a"), name="guest_short_left")
    visits = helping.visits
    wait_until(lambda: helping.visits >= visits + 2)
    assert "short" not in helping.asked


# --- the collector alone -----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_guest_that_does_not_answer_is_asked_less_and_less(agent, socket_of_agent, caplog):
    agent.hangs_up = True
    collector = AgentCollector(0.05, PluginContext().log)
    collector.start()
    target = AgentTarget(guest("a").entity, "1", (AgentAddress(AgentKind.AGENT_SOCKET, socket_of_agent),))
    began = time.monotonic()
    collector.follow([target])
    wait_until(lambda: agent.visits >= 4)
    assert time.monotonic() - began >= 0.1 + 0.2 + 0.4, "not after 0.05 s each"
    agent.hangs_up = False
    wait_until(lambda: "mem_available" in collector.fields([target.guest.id]).get(target.guest.id, {}))
    collector.stop(1.0)
    assert caplog.records == []


def test_it_ends_in_time_whatever_is_under_way(servers):
    release, hangs = threading.Event(), threading.Event()

    def hang(guest: Entity, command: str, seconds: float) -> str:
        hangs.set()
        release.wait(2 * LONG_SECONDS)
        raise GuestBusy("late")

    collector = AgentCollector(10.0, PluginContext().log, hang)
    collector.start()
    places = (AgentAddress(AgentKind.GUESTD_CHANNEL, servers.unix(silent)), AgentAddress(AgentKind.AGENT_HYPERVISOR))
    collector.follow([AgentTarget(guest(str(number)).entity, "1", places[number % 2 :]) for number in range(20)])
    assert hangs.wait(LONG_SECONDS)
    began = time.monotonic()
    collector.stop(0.3)
    assert time.monotonic() - began < LONG_SECONDS / 2
    release.set()
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("guestagent")])


def test_one_that_was_never_started_ends_too():
    AgentCollector(10.0, PluginContext().log).stop(0.1)
    plugin = GuestAgentPlugin(GuestAgentPlugin.Settings(), PluginContext())
    assert plugin.mom_collect_guests(Hypervisor(), []) == {}
    assert list(plugin.mom_doctor(None)) == []
    plugin.mom_teardown()


def test_of_whom_the_hypervisor_knows_enough_it_is_seldom_asked_and_meanwhile_nothing_counts_as_a_failure(servers, monkeypatch):
    agent, dead = QemuAgent(), QemuAgent()
    dead.hangs_up = True

    def pass_on(guest: Entity, command: str, seconds: float) -> str:
        return agent.answer(command.encode()).decode()

    monkeypatch.setattr("mom_plugins_guestagent.collector.TIMEOUT_SECONDS", LONG_SECONDS)
    collector = AgentCollector(0.05, PluginContext().log, pass_on)
    collector.start()
    identity = guest("a").id
    collector.learn({}, {identity})
    places = (AgentAddress(AgentKind.GUESTD_CHANNEL, servers.unix(dead.speak)), AgentAddress(AgentKind.AGENT_HYPERVISOR))
    collector.follow([AgentTarget(guest("a").entity, "1", places)])
    wait_until(lambda: "mem_available" in collector.fields([identity]).get(identity, {}))
    first = len(agent.asked)
    wait_until(lambda: collector.states()[identity].rounds >= 3)
    assert len(agent.asked) == first, "the dead channel was tried again, and the hypervisor left in peace"
    assert collector.fields([identity])[identity]["guest_agent_failures"] == 0
    assert collector.states()[identity].silence == ""
    collector.learn({}, set())
    wait_until(lambda: len(agent.asked) > first)
    collector.stop(1.0)


def test_after_a_reload_agents_are_asked_through_the_hypervisor_that_is_there_now():
    agent = QemuAgent()

    def closed(guest: Entity, command: str, seconds: float) -> str:
        raise HypervisorError("the connection to libvirt is closed")

    def passed_on(guest: Entity, command: str, seconds: float) -> str:
        return agent.answer(command.encode()).decode()

    collector = AgentCollector(0.05, PluginContext().log, closed)
    collector.start()
    target = AgentTarget(guest("a").entity, "1", (AgentAddress(AgentKind.AGENT_HYPERVISOR),))
    collector.follow([target])
    wait_until(lambda: (state := collector.states().get(target.guest.id)) and state.failures)
    collector.pass_on = passed_on
    collector.follow([target])
    wait_until(lambda: "mem_available" in collector.fields([target.guest.id])[target.guest.id])
    collector.stop(1.0)


def test_figures_are_stale_by_the_period_at_which_they_come():
    agent = QemuAgent()
    asking = AgentCollector(10.0, PluginContext().log, lambda guest, command, seconds: agent.answer(command.encode()).decode())
    asking.start()
    identity = guest("a").id
    asking.follow([AgentTarget(guest("a").entity, "1", (AgentAddress(AgentKind.AGENT_HYPERVISOR),))])
    wait_until(lambda: "mem_available" in asking.fields([identity]).get(identity, {}))
    state = asking.states()[identity]
    for seconds, seldom, fresh in ((32, False, True), (34, False, False), (34, True, True), (124, True, False)):
        assert state.sample is not None
        state.sample = replace(state.sample, monotonic=time.monotonic() - seconds)
        asking.learn({}, {identity} if seldom else set())
        assert ("mem_available" in asking.fields([identity])[identity]) is fresh
    asking.stop(1.0)


# --- what operators see ------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_doctor_says_who_answers_and_what_the_others_lack(make, hypervisor, servers, tmp_path):
    forbidding, foreign, lying = QemuAgent(), QemuAgent({}), QemuAgent({**FILES, "/proc/meminfo": LYING})
    forbidding.disabled = {"guest-file-open"}
    hypervisor.channels = {
        "uuid-of-well": {"org.mom.guestd.0": servers.unix(Guestd(tmp_path / "root").speak)},
        "uuid-of-bare": {},
        "uuid-of-hung": {"org.qemu.guest_agent.1": servers.unix(silent)},
        "uuid-of-careful": {"org.qemu.guest_agent.1": servers.unix(forbidding.speak)},
        "uuid-of-liar": {"org.qemu.guest_agent.1": servers.unix(lying.speak)},
        "uuid-of-foreign": {"org.qemu.guest_agent.1": servers.unix(foreign.speak)},
        "uuid-of-private": {},
    }
    plugin = make({"private": {"ask_agent": False}}, deadline="1m")
    found = [(finding.severity, finding.message) for finding in plugin.mom_doctor(hypervisor)]
    assert found == [
        (Severity.OK, "2 guests reported statistics: 1 by agent-socket, 1 by guestd-channel"),
        (Severity.WARNING, "1 guest without a channel or address: bare"),
        (Severity.WARNING, "1 guest whose agent is not allowed to read files (guest-file-open, -read, -close): careful"),
        (Severity.WARNING, "1 guest whose agent reports no memory statistics: foreign"),
        (Severity.WARNING, "1 guest whose agent does not answer: hung (agent-socket: no answer in time)"),
        (Severity.WARNING, "mom rejects statistics from 1 guest: liar (mem_unused is larger than the guest's total memory)"),
    ]


def test_the_script_and_its_unit_can_be_had():
    assert CliRunner().invoke(guestd_script, []).output == Path(guestd.__file__).read_text()
    unit = CliRunner().invoke(guestd_script, ["--unit"]).output
    assert "ExecStart=/usr/local/sbin/mom-guestd\n" in unit


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_unit(tmp_path):
    unit = CliRunner().invoke(guestd_script, ["--unit"]).output.replace("/usr/local/sbin/mom-guestd", "/bin/true")
    (tmp_path / "mom-guestd.service").write_text(unit)
    done = subprocess.run(["systemd-analyze", "verify", tmp_path / "mom-guestd.service"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("settings", [{"guestd_address": "db1.example"}, {"agent_socket": "run/x"}, {"guestd_address": "10.0.0.1:0"}])
def test_places_that_are_none_are_refused(settings):
    with pytest.raises(ValidationError):
        GuestAgentPlugin.GuestSettings.model_validate(settings)
