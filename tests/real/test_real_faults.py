"""libvirtd or a guest's QEMU hangs, dies or refuses: all waits have limits, and other guests continue."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from libvirt_mom import LibvirtMom, libvirt_mom
from private_libvirtd import PrivateLibvirtd

from mom_core import Engine, GuestBusy, HypervisorError, Report
from mom_devkit import config_of, wait_until

pytestmark = pytest.mark.real

CALL_TIMEOUT = 2.0
BOUND = 30.0
"""Time limit in seconds. Hangs here are endless, and mom waits for at most two call timeouts, which are far shorter."""

MakeMom = Callable[..., LibvirtMom]


@pytest.fixture
def make(libvirtd: PrivateLibvirtd) -> Iterator[MakeMom]:
    with ExitStack() as made:
        yield lambda **settings: made.enter_context(libvirt_mom(libvirtd, **{"call_timeout": f"{CALL_TIMEOUT:g}s", **settings}))
        began = time.monotonic()
    assert time.monotonic() - began < BOUND, "it ends, whatever hangs"


@pytest.fixture
def mom(make: MakeMom) -> LibvirtMom:
    return make()


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Stop these processes until the end of the block."""
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
    """Fail if the block takes longer."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"took {took:.2f} s"


@dataclass
class Running:
    """Engine in its own thread, with its reports."""

    engine: Engine
    reports: list[Report] = field(default_factory=list)

    def next_reports(self, count: int) -> list[Report]:
        """Wait for reports of cycles that begin from now on, and return them."""
        after = len(self.reports) + 1
        wait_until(lambda: len(self.reports) >= after + count, f"{count} cycles", 15 * count)
        return self.reports[after : after + count]


@pytest.fixture
def running(libvirtd: PrivateLibvirtd, tmp_path: Path) -> Iterator[Running]:
    plugins = {"host": {}, "libvirt": libvirtd.settings(call_timeout="1s", deadline="3s"), "balloon": {}}
    reports: list[Report] = []
    engine = Engine(config_of(tmp_path, plugins, interval=0.5), on_report=reports.append)
    engine.start()
    yield Running(engine, reports)
    engine.stop()


def test_a_libvirtd_that_hangs_leaves_the_other_plugins_at_work_and_is_found_again_also_when_it_was_killed(running, lab, libvirtd, capfd):
    guest = lab.start("beside", paused=True)
    wait_until(lambda: running.reports and guest.uuid in running.reports[-1].snapshot.guests, "it is managed")
    with stopped(libvirtd.pid):
        during = running.next_reports(4)
    for report in during:
        assert report.duration < BOUND
        assert "mem_free" in report.snapshot.host.fields, "the host is read as ever"
        assert not report.snapshot.guests
    assert any("libvirt" in problem.message for problem in during[-1].problems)
    wait_until(lambda: guest.uuid in running.reports[-1].snapshot.guests, "the guest is back")
    try:
        with stopped(libvirtd.pid):
            running.next_reports(2)
            libvirtd.kill()
        running.next_reports(2)
    finally:
        libvirtd.start()
    wait_until(lambda: guest.uuid in running.reports[-1].snapshot.guests, "the guest is back again")
    assert capfd.readouterr().err == ""


def test_moms_that_follow_each_other_at_once_put_back_what_the_guest_had_before_the_first(lab, libvirtd, tmp_path):
    """libvirt follows a moving balloon once a second. So the next mom may see an intermediate size."""
    guest = lab.start("handed").wait_until_up()
    whole = guest.size_mib
    policy = tmp_path / "less.policy"
    policy.write_text(f'(with Guests guest (guest.Control "balloon_target" {150 << 10}))')
    plugins = {"libvirt": libvirtd.settings(stats_period="1s"), "balloon": {}, "policy": {"file": str(policy)}}
    for _ in range(3):
        with Engine(config_of(tmp_path, plugins, interval=1.0)) as engine:

            def before(engine=engine) -> list[object]:
                engine.cycle()
                return [entry.before for entry in engine.state().changes if entry.control == "balloon_target"]

            assert wait_until(before, "it is to have less", 60) == [whole * 1024]
            wait_until(lambda: guest.size_mib < whole - 20, "it has less", 60)
    wait_until(lambda: guest.size_mib == whole, "it has what it had", 60)


def test_a_libvirtd_that_dies_during_a_call_does_not_keep_the_caller(make, lab, libvirtd):
    mom = make(call_timeout="20s", deadline="60s")
    guest = lab.start("during", paused=True)
    assert mom.reached(guest)
    errors: list[Exception] = []

    def ask() -> None:
        try:
            mom.hypervisor.set_balloon(guest.entity, 150 << 10)
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


def test_several_guests_that_hang_hold_up_nobody_for_long(mom, lab, capfd):
    well = lab.start("well", mib=128)
    sick = [lab.start(f"sick{number}", mib=128) for number in range(4)]
    for guest in (well, *sick):
        guest.wait_until_up()

    wait_until(lambda: all("mem_usable" in mom.fields(guest) for guest in (well, sick[-1])), "statistics come")
    with stopped(*(guest.pid for guest in sick)):
        for _ in range(3):  # four guests, found two at a time
            with bounded():
                assert len(mom.hypervisor.guests()) == 5
        with bounded():
            assert "mem_usable" in mom.fields(well)
        assert mom.size(sick[0]) == 128 << 10, "libvirtd itself knows it"
        mom.hypervisor.set_balloon(well.entity, 100 << 10)
        for _ in range(2):
            with bounded():
                for guest in sick:
                    with pytest.raises(GuestBusy):
                        mom.hypervisor.set_balloon(guest.entity, 100 << 10)
        with bounded():
            blocked = {guest.id for guest in mom.hypervisor.guests() if "*" in guest.blocked}
        assert blocked == {guest.uuid for guest in sick}
    wait_until(lambda: all(not guest.blocked for guest in mom.hypervisor.guests()), "all answer again")
    for guest in sick:
        mom.hypervisor.set_balloon(guest.entity, 110 << 10)
    assert capfd.readouterr().err == ""


def test_a_guest_that_somebody_else_keeps_busy_is_busy(make, lab):
    mom = make(call_timeout="8s", deadline="20s")
    busy, other = lab.start("busy"), lab.start("other")
    for guest in (busy, other):
        guest.wait_until_up()
    wait_until(lambda: all("mem_unused" in mom.fields(guest) for guest in (busy, other)), "both tell their statistics")
    mom.hypervisor.guests()  # when a guest's first statistics arrive, mom reads its definition again
    with stopped(busy.pid):
        domain = busy.domain
        holding = threading.Thread(target=domain.setMemoryFlags, args=(150 << 10, libvirt.VIR_DOMAIN_AFFECT_LIVE), daemon=True)
        holding.start()  # holds the guest's job until QEMU answers
        wait_until(lambda: domain.controlInfo()[0] != libvirt.VIR_DOMAIN_CONTROL_OK, "its job is held")
        with bounded(6):
            assert len(mom.hypervisor.guests()) == 2, "libvirt knows that it is busy, and does not wait"
        with bounded(), pytest.raises(GuestBusy):
            mom.hypervisor.set_balloon(busy.entity, 160 << 10)
        with bounded():
            mom.hypervisor.set_balloon(other.entity, 160 << 10)
    holding.join(60)
    wait_until(lambda: (found := mom.reached(busy)) is not None and not found.blocked, "it answers again")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Yield a port that accepts connections, but never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("transport", ["tcp", "ssh", "libssh2"])
def test_a_host_that_does_not_answer_is_waited_for_only_so_long(make, silent_port, transport):
    mom = make(uri=f"qemu+{transport}://nobody@127.0.0.1:{silent_port}/system")
    for _ in range(3):
        with bounded(), pytest.raises(HypervisorError, match="does not answer"):
            mom.hypervisor.guests()


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


def test_guests_behind_ssh_are_managed_and_nobody_is_asked_for_a_password(make, lab, libvirtd, tmp_path):
    """A program in place of ssh connects to the private libvirtd."""
    ssh, seen = tmp_path / "ssh", tmp_path / "seen"
    ssh.write_text(_TUNNEL.format(python=sys.executable, seen=str(seen), socket=str(libvirtd.socket)))
    ssh.chmod(0o755)
    guest = lab.start("remote", paused=True)
    mom = make(uri=f"qemu+ssh://root@host.example/system?command={ssh}", call_timeout="2s")
    found = wait_until(lambda: mom.reached(guest), "it is connected")
    assert found.name == guest.name
    assert "pid" not in found.properties, "its process is on another host"
    mom.hypervisor.set_balloon(guest.entity, 160 << 10)
    assert "BatchMode" in seen.read_text() or "NumberOfPasswordPrompts=0" in seen.read_text()
    assert "host.example" in seen.read_text()
    guest.destroy()
    mom.hears(f"guest {guest.name} stopped")
