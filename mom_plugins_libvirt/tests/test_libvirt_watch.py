"""The watch for guests that run low on memory has a connection to libvirtd of its own, and is stopped by nothing that becomes of it."""

import logging
import threading
import time
from collections.abc import Iterator

import pytest
from fake_libvirt import LONG_SECONDS, FakeError, FakeLibvirtd

from mom_core import Guest, Report, Snapshot
from mom_devkit import wait_until
from mom_kvm.watch import GuestWatch
from mom_plugins_libvirt import Connection, ConnectionSettings


@pytest.fixture
def woken() -> list[str]:
    return []


@pytest.fixture
def watch(libvirtd: FakeLibvirtd, woken: list[str]) -> Iterator[GuestWatch]:
    """One that watches a guest from which memory was taken."""
    guest, log = libvirtd.add("db"), logging.getLogger("test")
    guest.current //= 2
    connection = Connection(ConnectionSettings("fake:///system", readonly=True, call_timeout=LONG_SECONDS), log, libvirtd)
    made = GuestWatch(connection, 0.01, woken.append, log)
    fields = {"balloon_cur": guest.current, "balloon_max": guest.maximum, "mem_usable": 200 << 10}
    guests = {guest.uuid: Guest(guest.uuid, guest.name, fields)}
    made.follow(Report(1, 0.0, "enforce", Snapshot(guests=guests), [], [], [], [], [], 0.0))
    yield made
    made.stop()
    connection.close()


def test_a_libvirtd_that_fails_is_left_in_peace_for_a_while(libvirtd: FakeLibvirtd, watch: GuestWatch, woken: list[str]) -> None:
    watch.look()
    libvirtd.connections[0].broken = True
    libvirtd.refusal = FakeError("no", 38)
    assert watch.look() == 5.0
    libvirtd.refusal = None
    wait_until(lambda: watch.look() < 5.0)
    libvirtd.guests["uuid-of-db"].statistics = {"balloon.last-update": int(time.time()), "balloon.usable": 20 << 10}
    watch.look()
    assert woken == ["guest db is short of memory: 20 MiB usable of 512 MiB"], "it is connected again"


def test_a_libvirtd_that_hangs_does_not_hold_up_the_end(libvirtd: FakeLibvirtd, watch: GuestWatch) -> None:
    release = threading.Event()
    libvirtd.bulk_hangs.append(release)
    watch.start()
    wait_until(lambda: libvirtd.calls["getAllDomainStats"])
    began = time.monotonic()
    watch.stop()
    assert time.monotonic() - began < LONG_SECONDS / 2, "half of what it waits for libvirtd"
    release.set()
