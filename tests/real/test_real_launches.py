"""Memory for each launch on real libvirt: its hook asks mom before a guest starts, and only mom's refusal stops a start."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ballast import available_mib
from guest_image import build
from libvirt_mom import another_host, libvirt_mom
from mom_run import MomRun
from private_libvirtd import PREFIX, PrivateLibvirtd
from real_guests import Lab, RealGuest, not_here, steady_host
from steady_host import anonymous_mib

from mom_core import HypervisorError
from mom_devkit import wait_until
from mom_plugins_http.cli.client import Client

pytestmark = pytest.mark.real


GIVERS, GIVER_MIB = 2, 1200
WORKLOAD = (40, 10, 10, 950)
"""MiB of cold, warm, common and former memory. Former memory was touched and freed, so the guest holds it but can spare it."""

MADE_MIB = GIVERS * 1024 // 3
AT_ONCE_MIB = 400
"""Memory for launches at once on a full host: the wanted available memory less the least memory. With mom's defaults, a host of 24 GiB
has this much."""

LAUNCHED_MIB = MADE_MIB + AT_ONCE_MIB
PATIENT_MIB = 350 + AT_ONCE_MIB

BALLAST_MIB = 250
"""Memory that other programs of this host may take during the test."""


BESIDE = ("aa-before", "zz-after")
"""Hooks that libvirt runs before and after mom's, in the order of their names."""

ROOMY = {"host_keeps": "64MiB"}
FULL = {"host_keeps": "1PiB"}


class HookedMom:
    """mom, and the hook of a libvirtd that asks it."""

    def __init__(self, folder: Path, libvirtd: PrivateLibvirtd) -> None:
        if os.geteuid():
            not_here("only root's libvirtd has hooks here")
        self.libvirtd = libvirtd
        self.mom = MomRun(folder)
        self._root = folder / "root"
        (self._root / "etc").mkdir(parents=True)
        (self._root / "etc/libvirt").symlink_to(libvirtd.folder / "etc")

    @property
    def hook(self) -> Path:
        return self._root / "etc/libvirt/hooks/qemu.d/mom"

    def start(
        self,
        *,
        reservations: Mapping[str, object],
        launches: Mapping[str, object],
        interval: str = "1s",
        mode: str = "enforce",
        **balloon: object,
    ) -> None:
        """Start mom, and install the hook with mom's command."""
        settings = {"reservations": {**reservations, "launches": launches}, **balloon}
        plugins = {"libvirt": self.libvirtd.settings(), "balloon": settings, "policy": {}, "http": {}}
        self.mom.configure(plugins, interval=interval, mode=mode)
        self.mom.start()
        self.verb("install", "libvirt")

    def available_mib(self) -> int:
        """Return the available memory that mom reports."""
        self.mom.configure({"libvirt": self.libvirtd.settings(), "balloon": {}, "policy": {}, "http": {}}, mode="observe")
        self.mom.start()
        found: int = self.asked()["room"]["available_kib"] >> 10
        self.mom.stop()
        return found

    def verb(self, *words: str) -> str:
        done = self.mom.verb("hook", *words, "--root", str(self._root))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def have_libvirt_look(self, lab: Lab) -> None:
        """Reload libvirt, as mom's command advises, and wait until it runs hooks. Another hook records that it ran."""
        self.hook.parent.mkdir(parents=True, exist_ok=True)
        for name in BESIDE:
            other = self.hook.with_name(name)
            other.write_text(f'#!/bin/sh\n[ "$2" != prepare ] || date +%s.%N >> {self.mom.folder}/{name}\n')
            other.chmod(0o755)
        os.kill(self.libvirtd.pid, signal.SIGHUP)

        def runs() -> bool:
            lab.start(f"brief{time.monotonic_ns()}", mib=64, paused=True).destroy()
            return (self.mom.folder / BESIDE[0]).exists()

        wait_until(runs, "libvirt runs hooks", 60)

    def delays(self) -> list[float]:
        """Return the delays of starts by mom's hook, in seconds, measured by the hooks before and after it."""
        before, after = ([float(line) for line in (self.mom.folder / name).read_text().splitlines()] for name in BESIDE)
        return [then - now for now, then in zip(before, after, strict=True)]

    def asked(self) -> Any:
        return Client(self.mom.folder / "run/mom.sock", 60).get("/v1/reservations")

    def kept_for(self, guest: RealGuest, before: str = "") -> Any:
        """Return the reservation that this guest uses; None without one.

        :param before: id of the reservation for an earlier start
        """
        found = self.asked()
        kept = (one for one in [*found["items"], *found["ended"]] if one["guest"] and one["guest"]["id"] == guest.uuid)
        return next((one for one in kept if one["id"] != before), None)

    def end(self) -> None:
        for name in (*BESIDE, "mom"):
            self.hook.with_name(name).unlink(missing_ok=True)
        self.mom.kill()
        sys.stdout.write(self.mom.log if (self.mom.folder / "log").exists() else "")


@pytest.fixture
def hooked(libvirtd: PrivateLibvirtd, lab: Lab, tmp_path: Path) -> Iterator[HookedMom]:
    made = HookedMom(tmp_path, libvirtd)
    made.have_libvirt_look(lab)
    yield made
    made.end()


def test_libvirt_asks_before_a_guest_starts_and_before_it_goes_on_where_it_was_saved(hooked: HookedMom, lab: Lab) -> None:
    hooked.start(reservations=ROOMY, launches={"when_short": "refuse"})
    guest = lab.start("saved", workload=(10, 5, 0, 0), persistent=True).wait_until_it_works()
    first = wait_until(lambda: hooked.kept_for(guest), "the guest has come for what was kept", 60)
    assert (first["name"], first["memory_kib"]) == (guest.name, 192 << 10)
    assert first["who"].startswith("user root, process ")
    guest.domain.managedSave()
    guest.domain.create()
    wait_until(lambda: hooked.kept_for(guest, first["id"]), "it has come for what was kept anew", 60)
    guest.works_on()


@contextmanager
def without_what_is_left(lab: Lab) -> Iterator[None]:
    before = {domain.UUIDString() for domain in lab.connection.listAllDomains()}
    yield
    assert {domain.UUIDString() for domain in lab.connection.listAllDomains()} == before


def test_a_guest_for_which_there_is_no_memory_is_refused_in_words(hooked: HookedMom, lab: Lab) -> None:
    import libvirt  # type: ignore[import-untyped]  # it has no types

    hooked.start(reservations=FULL, launches={"when_short": "refuse"})
    with without_what_is_left(lab), pytest.raises(libvirt.libvirtError) as refused:
        lab.start("unlucky")
    assert "cannot reserve 192 MiB: at most 0 KiB can" in str(refused.value)
    assert "the host keeps" in str(refused.value)
    # libvirt may hear of the refusal before the log does.
    wait_until(lambda: f"guest {PREFIX}unlucky is not started: cannot reserve 192 MiB" in hooked.mom.log, "mom logs it")


@pytest.mark.parametrize("way", ["warn", "observe"])
def test_a_mom_that_warns_or_observes_lets_it_start(hooked: HookedMom, lab: Lab, way: str) -> None:
    observes = way == "observe"
    hooked.start(reservations=FULL, mode="observe" if observes else "enforce", launches={"when_short": "refuse"} if observes else {})
    said = "mom only observes" if observes else "is started anyway: cannot reserve 192 MiB"
    lab.start("lucky", paused=True)
    assert said in hooked.mom.log


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_guests_start_all_the_same_when_mom_was_killed_or_hangs(hooked: HookedMom, lab: Lab, number: signal.Signals) -> None:
    hooked.start(reservations=FULL, launches={"when_short": "refuse"})
    process = hooked.mom.process
    assert process is not None
    process.send_signal(number)
    lab.start("survivor", paused=True)
    if number is signal.SIGSTOP:
        process.send_signal(signal.SIGCONT)


def test_a_guest_that_is_moved_here_asks_too_and_stays_where_it_was_if_it_is_refused(lab: Lab, tmp_path: Path) -> None:
    with another_host(lab.libvirtd) as other, libvirt_mom(lab.libvirtd) as here:
        there = HookedMom(tmp_path, other)
        try:
            there.have_libvirt_look(Lab(other, build()))
            guest = lab.start("moves", workload=(10, 5, 0, 0), persistent=True).wait_until_it_works()
            there.start(reservations=FULL, launches={"when_short": "refuse"})
            with pytest.raises(HypervisorError, match="Hook script execution failed"):
                here.hypervisor.migrate(guest.entity, other.destination, 60.0)
            assert f"guest {guest.name} is not started: cannot reserve 192 MiB" in there.mom.log
            guest.works_on()
            there.mom.stop()
            there.start(reservations=ROOMY, launches={"when_short": "refuse"})
            here.hypervisor.migrate(guest.entity, other.destination, 60.0)
            kept = wait_until(lambda: there.kept_for(guest), "it has come for what was kept", 60)
            assert kept["memory_kib"] == 192 << 10
        finally:
            there.end()


@pytest.mark.alone
@pytest.mark.parametrize("givers", [1], indirect=True)
def test_it_starts_when_mom_hangs_while_it_waits(hooked: HookedMom, lab: Lab, steady: None) -> None:
    """The longest possible delay of a start: mom accepts the request and then hangs."""
    keeps = hooked.available_mib() - AT_ONCE_MIB
    hooked.start(
        reservations={"host_keeps": f"{keeps}MiB"},
        host_free=f"{keeps + AT_ONCE_MIB}MiB",
        law={"start_rest": "1s"},
        launches={"when_short": "refuse", "wait": "4s"},
    )
    wait_until(lambda: wide_enough(hooked, PATIENT_MIB), "givers can spare enough", 120)
    process = hooked.mom.process
    assert process is not None
    program = f"until grep -q 'guest {PREFIX}patient' {hooked.mom.folder}/log; do sleep 0.02; done; kill -STOP {process.pid}"
    with subprocess.Popen(["sh", "-c", program]):
        lab.start("patient", mib=PATIENT_MIB)
    process.send_signal(signal.SIGCONT)
    assert 4 < hooked.delays()[-1] < 30, "the hook waits for 5 s more than mom was to, and for a Python on a busy host"


def wide_enough(hooked: HookedMom, mib: int = LAUNCHED_MIB) -> bool:
    room = hooked.asked()["room"]
    return bool(room) and room["most_kib"] >= (mib + 64) << 10


@pytest.fixture
def givers(lab: Lab, request: pytest.FixtureRequest) -> list[RealGuest]:
    many: int = getattr(request, "param", GIVERS)
    if available_mib() < many * GIVER_MIB + LAUNCHED_MIB + 2 * BALLAST_MIB + 1024:
        not_here(f"only {available_mib()} MiB are available on this host")
    started = [lab.start(f"giver{number}", mib=GIVER_MIB, workload=WORKLOAD) for number in range(many)]
    for guest in started:
        guest.wait_until_it_works()
    return started


@pytest.fixture
def steady(lab: Lab, tmp_path: Path, givers: list[RealGuest]) -> Iterator[None]:
    """Keep the host's memory for guests constant."""
    with steady_host(tmp_path, lab.libvirtd.pid_folder, BALLAST_MIB):
        yield


@pytest.mark.alone
def test_memory_is_made_before_a_guest_starts(hooked: HookedMom, lab: Lab, givers: list[RealGuest], steady: None) -> None:
    """With mom's usual interval, guests release all of it within the wait, although libvirt answers no bulk requests meanwhile."""
    keeps = hooked.available_mib() - AT_ONCE_MIB
    hooked.start(
        interval="5s",
        reservations={"host_keeps": f"{keeps}MiB"},
        host_free=f"{keeps + AT_ONCE_MIB}MiB",
        law={"margin": "20MiB", "margin_percent": 10, "start_rest": "1s"},
        launches={"when_short": "refuse", "wait": "2m"},
    )
    wait_until(lambda: wide_enough(hooked), "givers can spare enough", 120)
    held = sum(anonymous_mib(guest.pid) for guest in givers)
    launched = lab.start("large", memory=f"<memory unit='MiB'>4096</memory><currentMemory unit='MiB'>{LAUNCHED_MIB}</currentMemory>")
    given = held - sum(anonymous_mib(guest.pid) for guest in givers)
    kept = wait_until(lambda: hooked.kept_for(launched), "it has come for it", 60)
    assert kept["memory_kib"] == LAUNCHED_MIB << 10, "it starts with no more"
    assert given > 0.8 * MADE_MIB
    launched.wait_until_up()
    assert "mom abandons the connection" not in hooked.mom.log, "mom has asked libvirt nothing that waits for the hook"
    assert not any(beat.kills for guest in givers for beat in guest.beats)
