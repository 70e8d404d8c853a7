"""Agents in real guests: Debian's qemu-guest-agent through libvirt and a socket, and mom-guestd through its channel."""

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from agent_image import build_with_agents
from guest_image import CannotBuild
from libvirt_mom import LibvirtMom
from private_libvirtd import PrivateLibvirtd
from real_guests import Lab, RealGuest, disk, not_here

from mom_core import Finding, Guest, GuestBusy, GuestGone, Host, HypervisorError, NotSupported, PluginContext, Report, Snapshot, Value
from mom_devkit import wait_until
from mom_plugins_guestagent import GuestAgentPlugin
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor

pytestmark = pytest.mark.real

LIBVIRTS, OURS, GUESTD = "org.qemu.guest_agent.0", "org.qemu.guest_agent.1", "org.mom.guestd.0"
BALLOON = ("mem_available", "mem_unused", "mem_usable", "mem_disk_caches")

MIB = 320


@dataclass
class Mom:
    """Both plugins, set up like in the engine."""

    libvirt: LibvirtMom
    agents: GuestAgentPlugin

    @property
    def hypervisor(self) -> LibvirtHypervisor:
        return self.libvirt.hypervisor

    def fields(self, real: RealGuest) -> dict[str, Value]:
        """Return the guest's fields from its agents."""
        guests = self.hypervisor.guests()
        return dict(self.agents.mom_collect_guests(self.hypervisor, guests).get(real.uuid, {}))

    def once_known(self, real: RealGuest, name: str, seconds: float = 180.0) -> dict[str, Value]:
        """Wait until a field is known, and return all fields. An emulated guest may first have to start Python."""
        return wait_until(lambda: found if name in (found := self.fields(real)) else {}, f"{real.name} tells {name}", seconds)

    def doctor(self) -> list[Finding]:
        return list(self.agents.mom_doctor(self.hypervisor))


MakeMom = Callable[..., Mom]


@pytest.fixture
def make_agents(make_mom: Callable[..., LibvirtMom], monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeMom]:
    made: list[GuestAgentPlugin] = []

    def make(*without: str, **settings: object) -> Mom:
        for channel in without:
            monkeypatch.setattr(f"mom_plugins_guestagent.plugin.{channel}", "none")
        mine = GuestAgentPlugin.Settings.model_validate({"period": "1s", **settings})
        agents = GuestAgentPlugin(mine, PluginContext(name="guestagent", guest_settings=lambda guest: GuestAgentPlugin.GuestSettings()))
        agents.mom_setup()
        made.append(agents)
        return Mom(make_mom(), agents)

    yield make
    for agents in made:
        agents.mom_teardown()


class AgentsLab:
    """Lab for guests with agents and their channels."""

    def __init__(self, libvirtd: PrivateLibvirtd) -> None:
        self._libvirtd = libvirtd
        self.lab = Lab(libvirtd, build_with_agents())

    def socket(self, name: str, channel: str) -> Path:
        return self._libvirtd.folder / f"{name}-{channel}"

    def start(
        self, name: str, *channels: str, arguments: str = "", mib: int = MIB, balloon_options: str = "", devices: str = ""
    ) -> RealGuest:
        devices += "".join(
            f"<channel type='unix'>{self._source(name, channel)}<target type='virtio' name='{channel}'/></channel>" for channel in channels
        )
        return self.lab.start(name, mib=mib, devices=devices, arguments=arguments, balloon_options=balloon_options)

    def _source(self, name: str, channel: str) -> str:
        # libvirt's default path is only visible to the private libvirtd.
        return "" if channel == LIBVIRTS else f"<source mode='bind' path='{self.socket(name, channel)}'/>"


@pytest.fixture(scope="module")
def laboratory(libvirtd: PrivateLibvirtd) -> Iterator[AgentsLab]:
    try:
        made = AgentsLab(libvirtd)
    except CannotBuild as error:
        not_here(f"there is no guest with agents: {error}")
    yield made
    made.lab.destroy_all()


@pytest.fixture(scope="module")
def guest(laboratory: AgentsLab) -> RealGuest:
    """Start a guest with an agent on each channel."""
    return laboratory.start("agents", LIBVIRTS, OURS, GUESTD).wait_until_up()


def number(fields: Mapping[str, Value], name: str) -> float:
    value = fields[name]
    assert isinstance(value, int | float)
    return value


WAYS = {"guestd-channel": [], "agent-socket": ["CHANNEL"], "agent-hypervisor": ["CHANNEL", "OWN_CHANNEL"]}
"""Channels that mom must not know, so that it uses another one; keyed by the used one."""


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_what_the_balloon_driver_says_and_more(make_agents: MakeMom, guest: RealGuest, way: str) -> None:
    mom = make_agents(*WAYS[way], qemu_agent=way != "guestd-channel")
    fields = mom.once_known(guest, "major_fault")
    assert fields["guest_agent"] == way
    assert fields["guest_agent_untrusted"] == 0
    assert 200 << 10 < number(fields, "mem_available") < MIB << 10
    assert 0 < number(fields, "mem_unused") <= number(fields, "mem_free") < number(fields, "mem_available")
    assert fields["swap_total"] == fields["swap_usage"] == fields["swap_in"] == fields["swap_out"] == 0
    assert number(fields, "minor_fault") >= 0
    assert 0 <= number(fields, "guest_psi_memory_some_avg10") <= 100
    assert number(fields, "guest_load_1") >= 0
    assert fields["guest_oom_kills"] == 0
    assert fields["guest_os"] == "mom test guest"
    assert str(fields["guest_kernel"]).endswith("-cloud-amd64")
    wait_until(lambda: number(mom.fields(guest), "guest_agent_age") < 5, "it is asked every second", 60)

    def both() -> dict[str, tuple[Value, Value]]:
        ours, theirs = mom.fields(guest), mom.libvirt.fields(guest)
        return {name: (ours.get(name), theirs.get(name)) for name in BALLOON}

    def agree() -> bool:
        """Return whether both have nearly the same values. Values of different seconds differ."""
        pairs = both().values()
        return all(isinstance(one, int) and isinstance(other, int) and abs(one - other) <= 16 << 10 for one, other in pairs)

    wait_until(agree, both, 60)
    assert len(set(both()["mem_available"])) == 1


def test_a_host_that_hangs_up_in_the_middle_confuses_nobody(make_agents: MakeMom, guest: RealGuest, laboratory: AgentsLab) -> None:
    for beginning in (b"stats", b"stats abc\nstats", b"\xff\x00" * 500, b"props 1\n" * 100):
        talk(laboratory.socket("agents", GUESTD), beginning)
    for beginning in (b'{"execute": "guest-', b'{"execute": "guest-info"}\n' * 3, b"[" * 500):
        talk(laboratory.socket("agents", OURS), beginning)
    assert make_agents(qemu_agent=False).once_known(guest, "mem_available")["guest_agent_untrusted"] == 0
    assert make_agents(*WAYS["agent-socket"]).once_known(guest, "mem_available")["guest_agent_untrusted"] == 0


def talk(path: Path, text: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(path))
        client.sendall(text)
        time.sleep(0.1)


def test_libvirt_passes_commands_on_and_tells_errors_apart(make_agents: MakeMom, guest: RealGuest, laboratory: AgentsLab) -> None:
    hypervisor = make_agents().hypervisor
    bare, dead = laboratory.start("bare"), laboratory.start("dead", LIBVIRTS, arguments="momtest.noagents=1")
    listed = {one.id: one.entity for one in hypervisor.guests()}
    channels = hypervisor.agent_channels(list(listed.values()))
    assert channels[guest.uuid] == {
        LIBVIRTS: "",
        OURS: str(laboratory.socket("agents", OURS)),
        GUESTD: str(laboratory.socket("agents", GUESTD)),
    }
    assert bare.uuid not in channels
    # Two other guests are starting, so an answer may take longer.
    assert hypervisor.agent_command(guest.entity, '{"execute":"guest-ping"}', 30) == '{"return":{}}'
    with pytest.raises(HypervisorError, match="guest-nonsense") as refused:
        hypervisor.agent_command(guest.entity, '{"execute":"guest-nonsense"}', 30)
    assert type(refused.value) is HypervisorError
    with pytest.raises(NotSupported):
        hypervisor.agent_command(bare.entity, '{"execute":"guest-ping"}', 2)
    with pytest.raises(GuestBusy):
        hypervisor.agent_command(dead.entity, '{"execute":"guest-ping"}', 1)
    dead.destroy()
    with pytest.raises(GuestGone):
        hypervisor.agent_command(dead.entity, '{"execute":"guest-ping"}', 1)
    bare.destroy()


def test_a_guest_that_stands_still_delays_no_other_and_is_known_again_when_it_goes_on_or_is_started_anew(
    make_agents: MakeMom, guest: RealGuest, laboratory: AgentsLab
) -> None:
    still = laboratory.start("still", LIBVIRTS, OURS, GUESTD).wait_until_up()
    mom = make_agents()
    mom.once_known(still, "mem_available")
    still.domain.suspend()
    wait_until(lambda: number(mom.fields(still), "guest_agent_failures") > 0, "it is noticed", 60)
    ages: list[float] = []

    def asked_thrice() -> bool:
        ages.append(number(mom.fields(guest), "guest_agent_age"))
        return sum(later < earlier for earlier, later in pairwise(ages)) >= 3

    wait_until(asked_thrice, "it is asked again and again, all the same")
    wait_until(lambda: "mem_available" not in mom.fields(still), "it is unknown", 60)
    still.domain.resume()
    mom.once_known(still, "mem_available")
    still.destroy()
    wait_until(lambda: not mom.fields(still), "it is gone", 60)
    again = laboratory.start("still", GUESTD)
    mom.once_known(again, "mem_available")
    again.destroy()


def test_disabled_commands_leave_what_there_is_and_the_next_way(make_agents: MakeMom, laboratory: AgentsLab) -> None:
    careful = laboratory.start("careful", LIBVIRTS, OURS, arguments="momtest.block=1").wait_until_up()
    mom = make_agents()
    fields = mom.once_known(careful, "guest_os")
    assert "mem_available" not in fields
    found = [finding.message for finding in mom.doctor()]
    assert any("is not allowed to read files" in message and "careful" in message for message in found), found
    careful.destroy()


def report(guest: RealGuest, state: str) -> Report:
    """Return a report of a host in this memory state."""
    snapshot = Snapshot(host=Host(fields={"host_memory_state": state}), guests={guest.uuid: Guest(guest.uuid, guest.name)})
    return Report(1, 0.0, "enforce", snapshot, (), (), (), (), (), 0.0)


def resident_mib(guest: RealGuest) -> float:
    """Return the guest's RSS."""
    status = Path(f"/proc/{guest.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))) / 1024


def test_a_guest_helps_while_its_host_is_short_of_memory_and_only_then(make_agents: MakeMom, laboratory: AgentsLab) -> None:
    mom = make_agents(tell_short=True)
    # 200 MiB are held. Between them, 200 MiB were freed in pieces of 1 MiB. 128 MiB of a disk were read once.
    work = f"momtest.demand={int(time.time()) + 86400},200,200,60,50,0,128,0,0,0,0,0,0,0,0,1"
    helping = laboratory.start(
        "helping",
        GUESTD,
        mib=768,
        balloon_options="freePageReporting='on'",
        devices=disk(laboratory.lab, "helping", 128),
        arguments=f"momtest.order=2 momtest.trim=10 momtest.hasty=1 {work}",
    )
    wait_until(lambda: "DEMAND" in helping.printed, "its memory is in pieces", 180)
    before = mom.once_known(helping, "guest_short_left")
    assert (before["guest_reporting_order"], before["guest_short_left"], before["guest_trimmed"]) == (9, 0, 0)
    held = resident_mib(helping)

    mom.agents.mom_report(report(helping, "soft"))
    wait_until(lambda: mom.fields(helping).get("guest_reporting_order") == 2, "it reports small pieces", 60)
    wait_until(lambda: resident_mib(helping) < held - 150, "the host has got them back", 120)
    wait_until(lambda: mom.fields(helping).get("guest_short_left"), "for as long as it is told so again and again", 60)
    wait_until(lambda: number(mom.once_known(helping, "guest_trimmed"), "guest_trimmed") > 80 << 10, "what was read once is dropped", 240)
    wait_until(lambda: resident_mib(helping) < held - 230, "and the host has got that back, too", 120)

    mom.agents.mom_report(report(helping, "high"))
    wait_until(lambda: mom.fields(helping).get("guest_reporting_order") == 9, "it is as it was", 60)
    assert mom.once_known(helping, "guest_short_left")["guest_short_left"] == 0
    helping.destroy()
