"""Agent channels in domain XML, and commands that libvirt passes to agents."""

import logging
import threading
from collections.abc import Iterator, Mapping

import pytest
from fake_libvirt import LONG_SECONDS, FakeDomain, FakeError, FakeGuest, FakeLibvirtd, MakeHypervisor

from mom_core import Entity, HypervisorError, Scope
from mom_devkit import wait_until
from mom_plugins_libvirt import Connection, ConnectionSettings
from mom_plugins_libvirt.domain_xml import described
from mom_plugins_libvirt.long_calls import AgentCommands

CHANNELS = """<devices>
<channel type='unix'><source mode='bind' path='/run/a/agent'/><target type='virtio' name='org.qemu.guest_agent.0'
  state='connected'/></channel>
<channel type='unix'><source mode='bind' path='/run/a/guestd'/><target type='virtio' name='org.mom.guestd.0'/></channel>
<channel type='unix'><source mode='connect' path='/run/a/other'/><target type='virtio' name='its.own.client'/></channel>
<channel type='unix'><target type='virtio' name='not.started.yet'/></channel>
<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>
<channel type='unix'><source mode='bind' path='/run/a/nameless'/><target type='virtio'/></channel>
<channel type='pty'><target type='guestfwd' address='10.0.2.1' port='4600'/></channel>
<channel/>
</devices>"""

A = Entity(Scope.GUEST, "uuid-of-a", "a")


class FakeQemu:
    """Substitute for the module `libvirt_qemu`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.error: FakeError | None = None
        self.hangs: threading.Event | None = None

    def qemuAgentCommand(self, domain: FakeDomain, command: str, timeout: int, flags: int) -> str:  # noqa: N802  # libvirt's name
        self.asked.append((domain.UUIDString(), command, timeout))
        if self.hangs is not None:
            self.hangs.wait()
        if self.error is not None:
            raise self.error
        return '{"return":{}}'


@pytest.fixture
def qemu() -> FakeQemu:
    return FakeQemu()


@pytest.fixture
def commands(libvirtd: FakeLibvirtd, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentCommands]:
    monkeypatch.setattr("mom_plugins_libvirt.long_calls._SLACK_SECONDS", LONG_SECONDS)
    log = logging.getLogger("mom.plugin.libvirt")
    libvirtd.add("a")
    monkeypatch.setattr("mom_plugins_libvirt.long_calls.qemu_binding", lambda doing: qemu)
    made = AgentCommands(Connection(ConnectionSettings("fake:///system"), log, libvirtd))
    yield made
    if qemu.hangs is not None:
        qemu.hangs.set()
    for thread in made.close():
        thread.join()


def channels_of(devices: str) -> Mapping[str, str]:
    description = described(f"<domain>{devices}</domain>")
    assert description is not None
    return description.channels


def test_channels_are_those_that_lead_to_agents_and_only_a_listening_socket_has_a_path() -> None:
    assert channels_of(CHANNELS) == {
        "org.qemu.guest_agent.0": "",  # libvirt itself uses this channel
        "org.mom.guestd.0": "/run/a/guestd",
        "its.own.client": "",
        "not.started.yet": "",
    }


def test_no_channel_is_too_many_or_too_long() -> None:
    channel = "<channel type='unix'><source mode='bind' path='/{0}'/><target type='virtio' name='{1}'/></channel>"
    named = [("a" * 300, "path"), ("a", "x" * 300), *((str(number), str(number)) for number in range(50))]
    found = channels_of(f"<devices>{''.join(channel.format(*one) for one in named)}</devices>")
    assert (len(found), found["path"], found["1"]) == (32, "", "/1")
    assert "x" * 300 not in found


def test_the_hypervisor_hands_out_what_the_descriptions_say(libvirtd: FakeLibvirtd, make_hypervisor: MakeHypervisor) -> None:
    class Talkative(FakeGuest):
        xml = f"<domain>{CHANNELS}</domain>"

    libvirtd.guests["uuid-of-a"] = Talkative("uuid-of-a", "a")
    libvirtd.add("b")
    hypervisor = make_hypervisor()
    guests = [guest.entity for guest in hypervisor.guests()]
    assert hypervisor.agent_channels(guests).keys() == {"uuid-of-a"}
    assert hypervisor.agent_channels([A])["uuid-of-a"]["org.mom.guestd.0"] == "/run/a/guestd"
    assert libvirtd.calls["XMLDesc"] == 2, "read once, with everything else"
    assert hypervisor.agent_channels([Entity(Scope.GUEST, "gone", "gone")]) == {}
    elsewhere = make_hypervisor("qemu+ssh://elsewhere/system")
    elsewhere.guests()
    assert set(elsewhere.agent_channels([A])["uuid-of-a"].values()) == {""}, "sockets on another host are none here"


def test_commands_use_a_few_connections_of_their_own_and_keep_them(commands: AgentCommands, qemu: FakeQemu, libvirtd: FakeLibvirtd) -> None:
    qemu.hangs = threading.Event()
    threads = [threading.Thread(target=commands.command, args=(A, "{}", 60)) for _ in range(20)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(qemu.asked) == 8)
    qemu.hangs.set()
    for thread in threads:
        thread.join()
    assert len(qemu.asked) == 20
    assert libvirtd.calls["open"] == 8, "each of which makes one call at a time"


def test_after_the_end_nobody_is_asked(commands: AgentCommands, qemu: FakeQemu) -> None:
    commands.close()
    with pytest.raises(HypervisorError, match="closed"):
        commands.command(A, "{}", 1)
    assert qemu.asked == []
