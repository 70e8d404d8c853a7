"""The connection: one call at a time, time limits, back-off."""

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
from fake_libvirt import LONG_SECONDS, FakeError, FakeGuest, FakeLibvirtd, impatient

import mom_plugins_libvirt.connection as module
from mom_core import GuestBusy, HypervisorError
from mom_devkit import wait_until
from mom_kvm import Callers
from mom_plugins_libvirt import Connection, ConnectionSettings
from mom_plugins_libvirt.api import SYSTEM_ERROR
from mom_plugins_libvirt.events import GuestEvent

LOG = logging.getLogger("test")
BALLOON = FakeLibvirtd.VIR_DOMAIN_STATS_BALLOON
Make = Callable[..., Connection]

SHORT_SECONDS = 0.1
"""Time limit of connections for an answer that never comes."""


@pytest.fixture
def make(libvirtd: FakeLibvirtd) -> Iterator[Make]:
    with ExitStack() as made:

        def make(call_timeout: float = LONG_SECONDS, **arguments: Any) -> Connection:
            settings = ConnectionSettings("fake:///", call_timeout=call_timeout)
            return made.enter_context(closing(Connection(settings, LOG, libvirtd, **arguments)))

        yield make


@pytest.fixture
def connection(make: Make) -> Connection:
    return make()


def test_a_libvirtd_that_is_down_is_tried_again_with_growing_pauses(libvirtd, make, clock):
    libvirtd.refusal = FakeError("Failed to connect socket: Connection refused", SYSTEM_ERROR, errno.ECONNREFUSED)
    connection = make(monotonic=clock)
    attempts = []
    for second in range(60):
        clock.now = 100.0 + second
        before = libvirtd.calls["open"]
        with pytest.raises(HypervisorError) as raised:
            connection.statistics(BALLOON)
        assert "start libvirt" in raised.value.hint
        if libvirtd.calls["open"] > before:
            attempts.append(second)
    assert attempts == [0, 1, 2, 3, 5, 9, 17, 32, 47]
    libvirtd.refusal = None
    clock.now += 15
    assert connection.statistics(BALLOON) == []


def test_an_answer_that_cannot_be_read_is_an_error_and_the_connection_is_replaced(libvirtd, connection, guest):
    connection.statistics(BALLOON)
    guest.name = "g\udcff"
    with pytest.raises(HypervisorError, match=r"libvirtd's answer cannot be read: .* byte 0xff"):
        connection.statistics(BALLOON)
    with pytest.raises(HypervisorError, match="asking: libvirtd's answer cannot be read"):
        connection.call("asking", guest.uuid, lambda domain: domain.name())
    wait_until(lambda: all(one.closed for one in libvirtd.connections))
    guest.name = "g"
    assert [found.name for found in connection.statistics(BALLOON)] == ["g"]
    assert connection.opened == 3


def test_a_bulk_call_that_hangs_is_left_behind_and_repeated_on_another_connection(libvirtd, connection, guest, monkeypatch):
    connection.statistics(BALLOON)
    monkeypatch.setattr(module, "_FIRST_ATTEMPT", SHORT_SECONDS / LONG_SECONDS)
    hang = libvirtd.connections[0].hangs = threading.Event()
    assert len(connection.statistics(BALLOON)) == 1
    assert len(libvirtd.connections) == 2
    assert not libvirtd.connections[0].closed, "libvirt frees what the call still uses"
    hang.set()
    wait_until(lambda: libvirtd.connections[0].closed)


def described(connection: Connection, guest: FakeGuest) -> str:
    return connection.call("asking", guest.uuid, lambda domain: domain.XMLDesc())


def all_hang(connection: Connection, guests: Sequence[FakeGuest]) -> tuple[threading.Event, list[float]]:
    """Ask hanging guests that a connection knows. Return the event that releases them, and the time limits of the calls."""
    connection.statistics(BALLOON)
    hang = threading.Event()
    for guest in guests:
        guest.hangs = hang
    with _patience_noted() as waited:
        for guest in guests:
            with pytest.raises(GuestBusy):
                described(connection, guest)
    return hang, waited


@contextmanager
def _patience_noted() -> Iterator[list[float]]:
    """Yield a list of the time limits of hanging calls."""
    waited: list[float] = []
    came_back = Callers.came_back

    def wait(call: Future[object], timeout: float) -> bool:
        waited.append(timeout)
        return came_back(call, min(timeout, 0.01))

    with pytest.MonkeyPatch.context() as calls:
        calls.setattr(Callers, "came_back", staticmethod(wait))
        yield waited


def test_calls_that_hang_are_not_piled_up_in_libvirtd(libvirtd, make):
    guests = [libvirtd.add(f"g{number}") for number in range(12)]
    connection = make()
    hang, _ = all_hang(connection, guests)
    wait_until(lambda: libvirtd.calls["XMLDesc"] >= 10)
    assert libvirtd.calls["XMLDesc"] == 10
    asked = libvirtd.calls["getAllDomainStats"]
    found = connection.statistics(BALLOON, fallback=FakeLibvirtd.VIR_DOMAIN_STATS_STATE)
    assert len(found) == 12, "the guests are known"
    assert "balloon.current" not in found[0].record, "and none of them is asked"
    assert libvirtd.calls["getAllDomainStats"] == asked + 1
    with pytest.raises(HypervisorError, match="10 earlier calls"):
        connection.statistics(BALLOON, [guests[0].uuid])
    assert libvirtd.calls["domainListGetStats"] == 0
    hang.set()
    wait_until(lambda: not connection._too_many_open())
    assert "memballoon" in described(connection, guests[0])


def test_an_attempt_to_connect_that_hangs_for_long_is_not_the_last(libvirtd, make, clock):
    connection = make(monotonic=clock)
    hang = libvirtd.open_hangs = threading.Event()
    with impatient(connection):
        for _ in range(240):  # four minutes
            clock.now += 1
            with pytest.raises(HypervisorError, match="does not answer"):
                connection.statistics(BALLOON)
    wait_until(lambda: libvirtd.calls["open"] >= 3)
    assert libvirtd.calls["open"] == 3, "as many as may hang at once"
    hang.set()
    wait_until(lambda: len(libvirtd.connections) == 3 and connection.opened == 1)
    assert connection.statistics(BALLOON) == []
    wait_until(lambda: sum(not connection.closed for connection in libvirtd.connections) == 1)


def test_only_one_call_is_made_at_a_time(libvirtd, connection, guest):
    at_work = threading.Semaphore(1)
    overlaps = []

    def ask(domain: object) -> None:
        if not at_work.acquire(blocking=False):
            overlaps.append(domain)
            return
        time.sleep(0.005)
        at_work.release()

    def caller() -> None:
        for _ in range(5):
            connection.call("asking", guest.uuid, ask)

    threads = [threading.Thread(target=caller) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not overlaps
    assert len(libvirtd.connections) == 1


def test_events_arrive_and_one_that_cannot_be_read_harms_nothing(libvirtd, connection, caplog, guest):
    heard: list[GuestEvent] = []
    connection.on_event = heard.append
    connection.statistics(BALLOON)
    libvirtd.connections[0].tell(guest, 5)
    assert heard == [GuestEvent("LIFECYCLE", guest.uuid, "g", 5)]
    guest.name = "g\udcff"
    libvirtd.connections[0].tell(guest, 5)
    assert "cannot process an event" in caplog.text


def test_closing_takes_no_time_and_ends_everything(libvirtd, make, guest, connection):
    connection.on_event = lambda event: None
    connection.statistics(BALLOON)
    connection.close()
    wait_until(lambda: libvirtd.connections[0].closed)
    with pytest.raises(HypervisorError, match="closed"):
        connection.statistics(BALLOON)

    stuck = make()
    stuck.statistics(BALLOON)
    guest.hangs = threading.Event()
    with impatient(stuck), pytest.raises(GuestBusy):
        described(stuck, guest)
    began = time.monotonic()
    stuck.close()
    assert time.monotonic() - began < LONG_SECONDS
    guest.hangs.set()
    wait_until(lambda: all(connection.closed for connection in libvirtd.connections))


def test_a_connection_that_opens_after_the_end_is_closed(libvirtd, make):
    connection = make(call_timeout=SHORT_SECONDS)
    hang = libvirtd.open_hangs = threading.Event()
    with pytest.raises(HypervisorError):
        connection.statistics(BALLOON)
    connection.close()
    hang.set()
    wait_until(lambda: bool(libvirtd.connections) and libvirtd.connections[0].closed)
