"""What the verdict says of a host whose memory runs out."""

import pytest

from mom_core import Guest, Host, Severity, Snapshot
from mom_core.testing import snapshot
from mom_plugins_balloon.guarantees import PromisesKept, Shrunk
from mom_plugins_balloon.problems import conditions
from mom_plugins_balloon.states import GIB, MemoryState

FULL = snapshot(
    host={"mem_available": 62 * GIB, "mem_really_available": 0},
    guests={"a": {"rss": 40 * GIB, "balloon_cur": 64 * GIB}, "b": {"balloon_cur": 20 * GIB}},
)
OVERSOLD = PromisesKept(room=60 * GIB, promised={"a": 70 * GIB}, shrunk=[Shrunk(Guest("a", "a"), 70 * GIB, 60 * GIB)])


def test_a_full_host_is_said_with_its_cause_and_the_cure() -> None:
    condition, promises = conditions(FULL, MemoryState.LOW, OVERSOLD)
    assert promises.name == "promises", "that goes on while the host is full"
    assert condition.message == "the host is full: 0 KiB of 62.00 GiB available"
    assert condition.why == "guests are promised 70.00 GiB together, and this host can promise 60.00 GiB"
    assert "lower their guarantees" in condition.cure
    assert condition.severity is Severity.ERROR


def test_a_host_below_its_hard_watermark_is_warned_of() -> None:
    host = {"mem_available": 62 * GIB, "mem_really_available": GIB, "mem_watermark_hard": 2 * GIB}
    (condition,) = conditions(snapshot(host=host), MemoryState.HARD, PromisesKept())
    assert (condition.name, condition.severity) == ("memory", Severity.WARNING)
    assert condition.message == "the host is short of memory: 1.00 GiB of 62.00 GiB available"
    assert "2.00 GiB" in condition.why
    _, growth = conditions(snapshot(host={**host, "mem_growth_peak": 3 * GIB}), MemoryState.HARD, PromisesKept())
    assert growth.name == "growth", "that is known as well"


def test_growth_goes_on_to_be_told_while_the_host_is_full() -> None:
    host = {"mem_available": 62 * GIB, "mem_really_available": 0, "mem_growth_peak": 3 * GIB}
    assert [one.name for one in conditions(snapshot(host=host), MemoryState.LOW, PromisesKept())] == ["memory", "growth"]


@pytest.mark.parametrize("state", [MemoryState.LOW, MemoryState.HARD])
def test_why_no_guest_gives_is_said_of_a_host_that_lacks_memory(state: MemoryState) -> None:
    (condition,) = conditions(FULL, state, PromisesKept(), lambda: "no policy in force reads Host.mem_reserved")
    assert "no policy in force reads Host.mem_reserved" in condition.why


def test_without_promises_it_is_said_what_guests_hold() -> None:
    (condition,) = conditions(FULL, MemoryState.LOW, PromisesKept())
    assert 0 < condition.after < 60, "mom has the time to put it right before it is an error"
    assert condition.why == "the processes of guests hold 40.00 GiB"
    (condition,) = conditions(Snapshot(Host(fields=FULL.host.fields)), MemoryState.LOW, PromisesKept())
    assert "something else" in condition.why


def test_more_is_promised_than_there_is_though_there_is_room_yet() -> None:
    (condition,) = conditions(FULL, MemoryState.HIGH, OVERSOLD)
    assert (condition.name, condition.severity) == ("promises", Severity.WARNING)


@pytest.mark.parametrize("state", [MemoryState.HIGH, MemoryState.SOFT])
def test_a_host_where_guests_give_is_at_work_and_not_full(state: MemoryState) -> None:
    assert not list(conditions(FULL, state, PromisesKept()))


def test_what_is_unknown_is_not_said_to_be_full() -> None:
    assert not list(conditions(snapshot(host={"mem_available": 62 * GIB, "mem_really_available": None}), MemoryState.LOW, OVERSOLD))


def test_what_guests_may_take_at_once_and_the_host_has_not_is_said_before_they_do() -> None:
    host = {"mem_available": 62 * GIB, "mem_really_available": 4 * GIB, "mem_growth_peak": 5 * GIB}
    (condition,) = conditions(snapshot(host=host), MemoryState.SOFT, PromisesKept())
    assert (condition.name, condition.severity) == ("growth", Severity.WARNING)
    assert not list(conditions(snapshot(host={**host, "mem_growth_peak": 3 * GIB}), MemoryState.SOFT, PromisesKept()))
