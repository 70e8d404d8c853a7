"""What becomes of mom when libvirtd or a guest's QEMU hangs, dies or refuses: everything is bounded, and the others go on."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from private_libvirtd import PrivateLibvirtd
from real_guests import Lab, RealGuest, eventually

from mom_core import (
    Engine,
    Guest,
    GuestBusy,
    GuestGone,
    HypervisorError,
    NotSupported,
    PermissionDenied,
    PluginContext,
    Report,
    load_config,
)
from mom_plugins_libvirt import LibvirtPlugin
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor

pytestmark = pytest.mark.real

CALL_TIMEOUT = 2.0
BOUND = 30.0
"""What hangs here hangs for ever, and mom waits for it for two call timeouts at most: this is far from both, on a busy machine too."""

MakeHypervisor = Callable[..., LibvirtHypervisor]


@pytest.fixture
def make(libvirtd: PrivateLibvirtd) -> Iterator[MakeHypervisor]:
    made: list[LibvirtPlugin] = []

    def make(**settings: object) -> LibvirtHypervisor:
        mine = {"uri": libvirtd.uri, "pid_directory": str(libvirtd.pid_folder), "call_timeout": f"{CALL_TIMEOUT:g}s", **settings}
        plugin = LibvirtPlugin(LibvirtPlugin.Settings.model_validate(mine), PluginContext(name="libvirt"))
        plugin.mom_setup()
        made.append(plugin)
        hypervisor = plugin.mom_hypervisor()
        assert isinstance(hypervisor, LibvirtHypervisor)
        return hypervisor

    yield make
    for plugin in made:
        began = time.monotonic()
        plugin.mom_teardown()
        assert time.monotonic() - began < BOUND, "it ends, whatever hangs"


@pytest.fixture
def hypervisor(make: MakeHypervisor) -> LibvirtHypervisor:
    return make()


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """These processes hang."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def bounded(seconds: float = BOUND) -> Iterator[None]:
    """What is done here does not wait for longer."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"took {took:.2f} s"


def guest_if_reachable(hypervisor: LibvirtHypervisor, real: RealGuest) -> Guest | None:
    try:
        return next((guest for guest in hypervisor.guests() if guest.id == real.uuid), None)
    except HypervisorError:
        return None


@dataclass
class Running:
    """An engine at work in its own thread, and its reports."""

    engine: Engine
    reports: list[Report] = field(default_factory=list)

    def next_reports(self, count: int) -> list[Report]:
        """Reports of cycles that begin from now on."""
        after = len(self.reports) + 1
        eventually(f"{count} cycles", lambda: len(self.reports) >= after + count, 15 * count)
        return self.reports[after : after + count]


@pytest.fixture
def running(libvirtd: PrivateLibvirtd, tmp_path: Path) -> Iterator[Running]:
    config = load_config(
        {
            "interval": "500ms",
            "state_directory": str(tmp_path / "state"),
            "run_directory": str(tmp_path / "run"),
            "plugins": {
                "host": {},
                "libvirt": {"uri": libvirtd.uri, "pid_directory": str(libvirtd.pid_folder), "call_timeout": "1s", "deadline": "3s"},
                "balloon": {},
            },
        }
    )
    reports: list[Report] = []
    engine = Engine(config, on_report=reports.append)
    engine.start()
    yield Running(engine, reports)
    engine.stop()


def test_a_libvirtd_that_hangs_leaves_the_other_plugins_at_work(
    running: Running, lab: Lab, libvirtd: PrivateLibvirtd, capfd: pytest.CaptureFixture[str]
) -> None:
    guest = lab.start("beside")
    eventually("it is managed", lambda: running.reports and guest.uuid in running.reports[-1].snapshot.guests)
    with stopped(libvirtd.pid):
        during = running.next_reports(4)
    for report in during:
        assert report.duration < BOUND
        assert "mem_free" in report.snapshot.host.fields, "the host is read as ever"
        assert not report.snapshot.guests
    assert any("libvirt" in problem.message for problem in during[-1].problems)
    eventually("the guest is back", lambda: guest.uuid in running.reports[-1].snapshot.guests)
    assert capfd.readouterr().err == ""


def test_a_libvirtd_that_hangs_and_is_killed_is_found_again(
    running: Running, lab: Lab, libvirtd: PrivateLibvirtd, capfd: pytest.CaptureFixture[str]
) -> None:
    guest = lab.start("later")
    eventually("it is managed", lambda: running.reports and guest.uuid in running.reports[-1].snapshot.guests)
    try:
        with stopped(libvirtd.pid):
            running.next_reports(2)
            libvirtd.kill()
        running.next_reports(2)
    finally:
        libvirtd.start()
    eventually("the guest is back", lambda: guest.uuid in running.reports[-1].snapshot.guests)
    assert capfd.readouterr().err == ""


def test_a_connection_that_is_lost_in_the_middle_of_a_cycle_harms_that_cycle_only(
    hypervisor: LibvirtHypervisor, lab: Lab, libvirtd: PrivateLibvirtd
) -> None:
    guest = lab.start("middle")
    assert guest_if_reachable(hypervisor, guest)
    libvirtd.kill()
    try:
        with bounded(), pytest.raises(HypervisorError):
            hypervisor.set_balloon(guest.entity, 150 << 10)
    finally:
        libvirtd.start()
    eventually("libvirt is back", lambda: guest_if_reachable(hypervisor, guest))
    libvirtd.kill()
    libvirtd.start()

    def resized() -> bool:
        try:
            hypervisor.set_balloon(guest.entity, 160 << 10)
        except HypervisorError:  # the connection is found to be lost, and opened again
            return False
        return True

    eventually("calls go through the new connection", resized, 60)


def test_a_libvirtd_that_was_restarted_is_used_again_at_once(make: MakeHypervisor, lab: Lab, libvirtd: PrivateLibvirtd) -> None:
    """Without a call of mom's: guests that start now must be heard of."""
    hypervisor = make()
    heard: list[str] = []
    hypervisor.subscribe(heard.append)
    hypervisor.guests()
    libvirtd.kill()
    libvirtd.start()
    eventually("it is connected again", lambda: hypervisor._connection.opened == 2, 60)
    guest = lab.start("anew")
    eventually("its start is heard of", lambda: f"guest {guest.name} started" in heard, 60)


def test_a_libvirtd_that_was_away_for_long_is_said_to_be_back(make: MakeHypervisor, libvirtd: PrivateLibvirtd) -> None:
    hypervisor = make()
    heard: list[str] = []
    hypervisor.subscribe(heard.append)
    hypervisor.guests()
    libvirtd.kill()
    try:
        time.sleep(2)
        with bounded(), pytest.raises(HypervisorError, match="cannot be reached"):
            hypervisor.guests()
    finally:
        libvirtd.start()
    eventually("it is back", lambda: any("can be reached again" in what for what in heard), 60)
    hypervisor.guests()


def test_a_libvirtd_that_dies_during_a_call_does_not_keep_the_caller(make: MakeHypervisor, lab: Lab, libvirtd: PrivateLibvirtd) -> None:
    hypervisor = make(call_timeout="20s", deadline="60s")
    guest = lab.start("during")
    assert guest_if_reachable(hypervisor, guest)
    errors: list[Exception] = []

    def ask() -> None:
        try:
            hypervisor.set_balloon(guest.entity, 150 << 10)
        except HypervisorError as error:
            errors.append(error)

    try:
        with stopped(libvirtd.pid):
            asking = threading.Thread(target=ask)
            asking.start()
            time.sleep(0.5)
            libvirtd.kill()
        with bounded(15):  # not the 20 s that the call may take
            asking.join()
    finally:
        libvirtd.start()
    assert [type(error) for error in errors] == [HypervisorError]
    assert "lost" in str(errors[0])


def test_several_guests_that_hang_hold_up_nobody_for_long(
    hypervisor: LibvirtHypervisor, lab: Lab, capfd: pytest.CaptureFixture[str]
) -> None:
    well = lab.start("well", mib=128)
    sick = [lab.start(f"sick{number}", mib=128) for number in range(4)]
    for guest in (well, *sick):
        guest.wait_until_up()

    def fields(guest: RealGuest) -> dict[str, object]:
        return dict(hypervisor.fields(hypervisor.guests()).get(guest.uuid, {}))

    eventually("statistics come", lambda: "mem_usable" in fields(well) and "mem_usable" in fields(sick[-1]))
    with stopped(*(guest.pid for guest in sick)):
        for _ in range(3):  # four guests, found two at a time
            with bounded():
                assert len(hypervisor.guests()) == 5
        with bounded():
            assert "mem_usable" in fields(well)
        hypervisor.set_balloon(well.entity, 100 << 10)
        with bounded():
            for guest in sick:
                with pytest.raises(GuestBusy):
                    hypervisor.set_balloon(guest.entity, 100 << 10)
        with bounded():
            for guest in sick:
                with pytest.raises(GuestBusy):
                    hypervisor.set_balloon(guest.entity, 100 << 10)
        with bounded():
            blocked = {guest.id for guest in hypervisor.guests() if "*" in guest.blocked}
        assert blocked == {guest.uuid for guest in sick}
    eventually("all answer again", lambda: all(not guest.blocked for guest in hypervisor.guests()))
    for guest in sick:
        hypervisor.set_balloon(guest.entity, 110 << 10)
    assert capfd.readouterr().err == ""


def test_a_guest_that_somebody_else_keeps_busy_is_busy(make: MakeHypervisor, lab: Lab) -> None:
    hypervisor = make(call_timeout="8s", deadline="20s")
    busy, other = lab.start("busy"), lab.start("other")
    for guest in (busy, other):
        guest.wait_until_up()
    eventually("both tell their statistics", lambda: all("mem_unused" in one for one in hypervisor.fields(hypervisor.guests()).values()))
    hypervisor.guests()  # a guest that begins to tell has its description read again, for which it must answer
    with stopped(busy.pid):
        domain = busy.domain
        holding = threading.Thread(target=domain.setMemoryFlags, args=(150 << 10, libvirt.VIR_DOMAIN_AFFECT_LIVE), daemon=True)
        holding.start()  # holds the guest's job until QEMU answers
        eventually("its job is held", lambda: domain.controlInfo()[0] != libvirt.VIR_DOMAIN_CONTROL_OK, every=0.02)
        with bounded(6):
            assert len(hypervisor.guests()) == 2, "libvirt knows that it is busy, and does not wait"
        with bounded(), pytest.raises(GuestBusy):
            hypervisor.set_balloon(busy.entity, 160 << 10)
        with bounded():
            hypervisor.set_balloon(other.entity, 160 << 10)
    holding.join(60)
    eventually("it answers again", lambda: (found := guest_if_reachable(hypervisor, busy)) is not None and not found.blocked)


def test_errors_are_told_apart(hypervisor: LibvirtHypervisor, make: MakeHypervisor, lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    guest = lab.start("errors", balloon="none")
    hypervisor.guests()
    with pytest.raises(NotSupported):
        hypervisor.set_balloon(guest.entity, 100 << 10)
    watching = make(readonly=True)
    watching.guests()
    with pytest.raises(PermissionDenied):  # libvirt's own refusal, past mom's
        watching._connection.call("x", guest.uuid, lambda domain: domain.setMemoryFlags(100 << 10, libvirt.VIR_DOMAIN_AFFECT_LIVE))
    guest.destroy()
    with pytest.raises(GuestGone):
        hypervisor.set_balloon(guest.entity, 100 << 10)
    with pytest.raises(HypervisorError) as raised:
        make(uri="qemu+unix:///system?socket=/nonexistent/socket").guests()
    assert type(raised.value) is HypervisorError
    assert "start libvirt" in raised.value.hint
    assert capfd.readouterr().err == ""


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections, and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("transport", ["tcp", "ssh", "libssh2"])
def test_a_host_that_does_not_answer_is_waited_for_only_so_long(make: MakeHypervisor, silent_port: int, transport: str) -> None:
    hypervisor = make(uri=f"qemu+{transport}://nobody@127.0.0.1:{silent_port}/system")
    for _ in range(3):
        with bounded(), pytest.raises(HypervisorError, match="does not answer"):
            hypervisor.guests()


@pytest.mark.parametrize(
    ("uri", "cure"),
    [
        ("qemu+ssh://nobody@127.0.0.1:1/system", "ssh nobody@127.0.0.1:1 true"),
        ("qemu+tls://127.0.0.1:1/system?pkipath=/nonexistent", "certificate"),
        ("qemu+tcp://127.0.0.1:1/system", "listens"),
    ],
)
def test_a_host_that_cannot_be_reached_is_said_so_at_once(
    make: MakeHypervisor, capfd: pytest.CaptureFixture[str], uri: str, cure: str
) -> None:
    with bounded(), pytest.raises(HypervisorError) as raised:
        make(uri=uri).guests()
    assert cure in raised.value.hint
    assert capfd.readouterr().err == "", "neither libvirt nor ssh writes there"


_TUNNEL = """#!{python}
import pathlib, select, socket, sys
pathlib.Path({seen!r}).write_text(" ".join(sys.argv[1:]))
tunnel = socket.socket(socket.AF_UNIX)
tunnel.connect({socket!r})
def pump(source, sink):
    data = source()
    if not data:
        sys.exit()
    sink(data)
stdin, stdout = open(0, "rb", 0), open(1, "wb", 0)
while True:
    ready, _, _ = select.select([stdin, tunnel], [], [])
    if stdin in ready:
        pump(lambda: stdin.read(65536), tunnel.sendall)
    if tunnel in ready:
        pump(lambda: tunnel.recv(65536), stdout.write)
"""


def test_guests_behind_ssh_are_managed_and_nobody_is_asked_for_a_password(
    make: MakeHypervisor, lab: Lab, libvirtd: PrivateLibvirtd, tmp_path: Path
) -> None:
    """With a program in the place of ssh that leads to the tests' own libvirtd."""
    ssh, seen = tmp_path / "ssh", tmp_path / "seen"
    ssh.write_text(_TUNNEL.format(python=sys.executable, seen=str(seen), socket=str(libvirtd.socket)))
    ssh.chmod(0o755)
    guest = lab.start("remote")
    hypervisor = make(uri=f"qemu+ssh://root@host.example/system?command={ssh}", call_timeout="2s")
    heard: list[str] = []
    hypervisor.subscribe(heard.append)
    found = eventually("it is connected", lambda: guest_if_reachable(hypervisor, guest))
    assert found is not None
    assert found.name == guest.name
    assert "pid" not in found.properties, "its process is on another host"
    hypervisor.set_balloon(guest.entity, 160 << 10)
    assert "BatchMode" in seen.read_text() or "NumberOfPasswordPrompts=0" in seen.read_text()
    assert "host.example" in seen.read_text()
    guest.destroy()
    eventually("events come through it", lambda: f"guest {guest.name} stopped" in heard, 60)
