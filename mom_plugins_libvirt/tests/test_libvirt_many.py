"""Connections to many libvirts, some hostile: shared resources and limits."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any

import pytest
from fake_libvirt import LONG_SECONDS, FakeGuest, FakeLibvirtd, impatient

from mom_core import HypervisorError, PluginContext
from mom_devkit import wait_until
from mom_kvm import Callers, CallPatience
from mom_plugins_libvirt import Connection, ConnectionSettings, LibvirtHypervisor, SamplingSettings
from mom_plugins_libvirt.events import GuestEvent

LOG = logging.getLogger("test")
BALLOON = FakeLibvirtd.VIR_DOMAIN_STATS_BALLOON
Make = Callable[..., Connection]


@pytest.fixture
def make(libvirtd: FakeLibvirtd) -> Iterator[Make]:
    with ExitStack() as made:

        def make(callers: Callers | None = None, patience: CallPatience | None = None, **settings: Any) -> Connection:
            each = ConnectionSettings("fake:///", **{"call_timeout": LONG_SECONDS, **settings})
            return made.enter_context(closing(Connection(each, LOG, libvirtd, callers=callers, patience=patience)))

        yield make


def test_what_is_in_the_way_is_what_is_said(libvirtd: FakeLibvirtd, make: Make) -> None:
    @contextmanager
    def way() -> Iterator[str]:
        raise HypervisorError("its socket is no socket")
        yield

    with pytest.raises(HypervisorError, match="its socket is no socket"):
        make(way=way).statistics(BALLOON)
    assert libvirtd.calls["open"] == 0


def test_one_can_be_reached_without_being_asked_and_says_when_it_was(libvirtd: FakeLibvirtd, make: Make) -> None:
    connection = make()
    opened: list[str] = []
    connection.on_open = partial(opened.append, "opened")
    connection.reach()
    wait_until(lambda: opened == ["opened"])
    connection.reach()
    connection.statistics(BALLOON)
    assert libvirtd.calls["open"] == 1


def test_the_end_of_one_leaves_threads_to_the_others(make: Make) -> None:
    callers = Callers("test")
    one, other = make(callers), make(callers)
    one.statistics(BALLOON)
    one.close()
    assert other.statistics(BALLOON) == []
    callers.close(1.0)


def test_one_that_connects_and_never_answers_keeps_few_calls_and_costs_the_others_no_patience(libvirtd: FakeLibvirtd, make: Make) -> None:
    patience = CallPatience()
    connection = make(patience=patience, most_open_calls=2)
    state = FakeLibvirtd.VIR_DOMAIN_STATS_STATE
    never = libvirtd.none_answers = threading.Event()
    with impatient(connection):
        for _ in range(8):
            with pytest.raises(HypervisorError):
                connection.statistics(BALLOON | state, fallback=state)
    assert libvirtd.calls["getAllDomainStats"] <= 3
    assert libvirtd.calls["open"] <= 4
    assert patience.seconds(2.0) == 2.0
    never.set()
    wait_until(lambda: not connection._too_many_open())
    assert connection.statistics(BALLOON | state, fallback=state) == []


def test_one_that_tells_of_too_many_events_is_given_up_and_heard_again_on_the_next_connection(
    libvirtd: FakeLibvirtd, make: Make, guest: FakeGuest
) -> None:
    heard: list[GuestEvent] = []
    connection = make(most_events=10)
    connection.on_event = heard.append
    connection.statistics(BALLOON)
    first = libvirtd.connections[-1]
    for _ in range(30):
        first.tell(guest, 3)
    assert len(heard) == 10
    connection.statistics(BALLOON)
    assert connection.opened == 2
    libvirtd.connections[-1].tell(guest, 4)
    assert len(heard) == 11


def test_what_one_said_last_grows_older_when_it_is_not_answering(libvirtd: FakeLibvirtd, make: Make) -> None:
    hypervisor = LibvirtHypervisor(make(), SamplingSettings(), PluginContext("libvirt"))
    libvirtd.add("g")
    guests = hypervisor.guests()
    assert hypervisor.fields(guests)[guests[0].id]["balloon_cur"]
    hypervisor.unanswered()
    assert "balloon_cur" not in hypervisor.fields(guests)[guests[0].id]
