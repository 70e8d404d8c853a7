"""Real guests free memory for a launch on the real host within the promised time, and the launched guest uses it."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from ballast import available_mib
from mom_run import MomRun
from plain_qemu import PlainGuest, PlainHost, plain_host
from real_guests import not_here, steady_host
from steady_host import anonymous_mib

from mom_devkit import wait_until
from mom_plugins_http.cli.client import Client

pytestmark = [pytest.mark.real, pytest.mark.alone]

GUESTS = 3
GUEST_MIB = 384
WORKLOAD = "40,10,10,220"
"""MiB of cold, warm, common and former memory. Former memory was touched and freed, so the guest holds it but can spare it."""

AT_ONCE_MIB = 150
ASKED_MIB = 380
BALLAST_MIB = 250
"""Memory that other programs of this host may take during the test."""

SLACK_SECONDS = 30.0
"""Additional time: three cycles of 2 s and the answer, on a machine with booting guests."""


@pytest.fixture
def host() -> Iterator[PlainHost]:
    with TemporaryDirectory(prefix="mom-qemu-") as folder, plain_host(Path(folder)) as made:
        yield made


@pytest.fixture
def guests(host: PlainHost) -> list[PlainGuest]:
    if available_mib() < GUESTS * GUEST_MIB + ASKED_MIB + 2 * BALLAST_MIB + 1024:
        not_here(f"only {available_mib()} MiB are available on this host")
    started = [host.start(f"giver{number}", GUEST_MIB, f"momtest.workload={WORKLOAD}") for number in range(GUESTS)]
    return [guest.wait_until_it_works() for guest in started]


@pytest.fixture
def steady(host: PlainHost, tmp_path: Path, guests: list[PlainGuest]) -> Iterator[float]:
    """Keep the host's memory for guests constant. Yield the available MiB."""
    with steady_host(tmp_path, host.folder, BALLAST_MIB) as available:
        yield available


@pytest.fixture
def mom(host: PlainHost, tmp_path: Path, steady: float) -> Iterator[MomRun]:
    """Start mom on a host that keeps nearly all available memory, like a full one."""
    keeps = int(steady) - AT_ONCE_MIB
    balloon = {
        "reserve": "32MiB",
        "host_free": f"{keeps + 40}MiB",
        "law": {"margin": "20MiB", "margin_percent": 10, "start_rest": "1s", "growth_rate": "100MiB"},
        "reservations": {"host_keeps": f"{keeps}MiB", "settle": "30s"},
    }
    run = MomRun(tmp_path)
    run.configure({"qemu": {"sockets": [f"{host.folder}/*.qmp"]}, "balloon": balloon, "policy": {}, "http": {}}, interval="2s")
    run.start()
    yield run
    run.kill()
    sys.stdout.write(run.log)  # shown if the test fails


def asked(mom: MomRun, path: str = "") -> Any:
    """Return the API's answer about reservations."""
    return Client(mom.folder / "run/mom.sock", 60).get(f"/v1/reservations{path}")


def test_guests_make_room_in_time_and_a_launched_guest_takes_it(
    host: PlainHost, guests: list[PlainGuest], steady: float, mom: MomRun, record_property: Callable[[str, object], None]
) -> None:
    pids = [guest.pid for guest in guests]
    held = sum(anonymous_mib(pid) for pid in pids)
    room = wait_until(lambda: wide_enough(asked(mom)["room"]), "guests can spare enough", 60)
    refused = mom.verb("reserve", f"{room['most_kib'] // 1024 + 64}MiB")
    assert refused.returncode == 1
    assert "can be reserved" in refused.stderr

    began = time.monotonic()
    done = mom.verb("reserve", f"{ASKED_MIB}MiB", "--for", "3m", "--name", "launch", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    one = f"/{made['id']}"
    assert made["state"] == "making"
    assert made["expected_kib"] > 100 << 10
    expected = 0.8 * made["expected_kib"] / 1024

    def given() -> bool:
        """Return whether the reservation is ready with memory of the guests. Memory freed by other programs may not last."""
        freed = held - sum(anonymous_mib(pid) for pid in pids)
        return freed > expected and asked(mom, one)["state"] == "ready" and available_mib() > steady + expected - 30

    wait_until(given, "all of it is there, given by guests", made["expected_in_seconds"] + SLACK_SECONDS)
    took, freed = time.monotonic() - began, held - sum(anonymous_mib(pid) for pid in pids)
    record_property("promised", f"{made['expected_kib'] >> 10} MiB in {made['expected_in_seconds']:.0f} s")
    record_property("came", f"{freed:.0f} MiB in {took:.1f} s")

    launched = host.start("launch", GUEST_MIB, "momtest.workload=200,10,10,0")
    taken = wait_until(lambda: being_taken(asked(mom, one)), "it has come for it")
    assert taken["guest"]["name"] == launched.name
    least = available_mib()
    while asked(mom, one)["state"] == "taken":
        least = min(least, available_mib())
        time.sleep(0.5)
    ended = asked(mom, one)
    assert ended["state"] == "used"
    launched.wait_until_it_works()
    assert least > steady - AT_ONCE_MIB - 30, "what the host keeps was never touched"
    assert not any(beat.kills for guest in [*guests, launched] for beat in guest.beats)
    mom.stop()


def wide_enough(room: Any) -> Any:
    return room if room and room["most_kib"] >= ASKED_MIB << 10 else None


def being_taken(one: Any) -> Any:
    return one if one["guest"] else None
