"""What becomes of what stands there when it is put back, case by case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import (
    Change,
    ControlSpec,
    Entity,
    Guest,
    GuestGone,
    HypervisorError,
    InTransition,
    LedgerEntry,
    NotSupported,
    Outcome,
    Refused,
    Scope,
    Status,
    Target,
    Unit,
    Value,
)
from mom_core.engine.judgement import Controller, judged

if TYPE_CHECKING:
    from mom_core import Hypervisor

MIB = 1024
GIB = 1024 * MIB
TOLERANCE = 16 * MIB

SIZE = ControlSpec("size", Unit.KIB, Scope.GUEST, "a guest's size", "size", tolerance=TOLERANCE, gradual=512)
COUNT = ControlSpec("count", Unit.COUNT, Scope.HOST, "a knob", "count")
DISKS = ControlSpec("disks", Unit.LIST, Scope.GUEST, "limits", "disks", key="name")


def entry(spec: ControlSpec, before: Value, applied: Value, attempted: tuple[Value, ...] = ()) -> LedgerEntry:
    return LedgerEntry(Entity(spec.scope, "a", "a"), spec.name, before, applied, "plugin", 0.0, attempted=attempted)


@pytest.mark.parametrize("size", [900 * MIB, 2300 * MIB])
def test_sizes_outside_of_what_mom_did_are_another_process_es(size: int) -> None:
    assert judged(SIZE, entry(SIZE, 2 * GIB, GIB), size).status is Status.LEFT_ALONE


kib = st.integers(min_value=1, max_value=1 << 32)


@given(kib, kib, kib)
def test_a_guest_that_stands_still_away_from_both_sizes_is_never_moms(before: int, applied: int, size: int) -> None:
    near = min(abs(size - before), abs(size - applied)) <= TOLERANCE
    assert (judged(SIZE, entry(SIZE, before, applied), size).status is not Status.LEFT_ALONE) == near


def test_a_guest_that_is_on_its_way_is_moms_wherever_it_is() -> None:
    assert judged(SIZE, entry(SIZE, 2 * GIB, GIB), InTransition(1536 * MIB)).value == 2 * GIB


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (5, Status.UNCHANGED),
        (7, None),
        (6, Status.LEFT_ALONE),
        (None, Status.FAILED),
        (HypervisorError("no answer"), Status.FAILED),
        (NotSupported("no such knob"), Status.GONE),
        (Refused("the kernel has taken charge of it"), Status.LEFT_ALONE),
    ],
)
def test_a_knob_of_the_host_is_put_back_where_it_is_moms(found: Value | HypervisorError, status: Status | None) -> None:
    assert judged(COUNT, entry(COUNT, 5, 7), found).status is status


def test_what_may_yet_take_effect_is_asked_for_again_though_it_stands_as_before() -> None:
    assert judged(COUNT, entry(COUNT, 5, 7, attempted=(9,)), 5).value == 5


def test_a_guest_that_is_gone_ends_the_entry_and_one_that_cannot_be_asked_keeps_it() -> None:
    assert judged(DISKS, entry(DISKS, [], []), GuestGone("gone")).status is Status.GONE
    assert judged(DISKS, entry(DISKS, [], []), NotSupported("another hypervisor")).status is Status.FAILED


# --- lists ---------------------------------------------------------------------------------------------------------------------------


def disks(**limits: int) -> Value:
    return [{"name": name, "limit": limit} for name, limit in limits.items()]


def test_an_item_that_another_process_has_changed_stays_and_the_others_are_put_back() -> None:
    found = judged(DISKS, entry(DISKS, disks(a=1, b=2), disks(a=10, b=20)), disks(a=10, b=99))
    assert found.value == disks(a=1)
    assert found.reason == "another process has changed b"


def test_an_item_that_was_asked_and_never_answered_is_asked_for_again_though_it_stands_as_before() -> None:
    found = judged(DISKS, entry(DISKS, disks(a=1, b=2), disks(b=20), attempted=(disks(a=10),)), disks(a=1, b=2))
    assert (found.status, found.value, found.reason) == (None, disks(a=1), "")


# --- rounded, and never read back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "asked", "found", "mine"),
    [
        (1000, 399, 392, True),  # multiples of 8
        (1000, 399, 400, True),
        (1000, 399, 384, False),  # more than one of 8 away
        (1000, 399, 700, False),
        (1000, 399, 393, False),  # what keeps 393 does not round 399
        (-1, 399, 396, True),  # before, there was no limit
        (-1, 399, 700, False),
        (0, 399, 396, True),  # 0 is a multiple of everything
        (0, 399, 700, False),
    ],
)
def test_what_the_kernel_made_of_a_late_command_is_put_back_and_nothing_else(before: int, asked: int, found: int, mine: bool) -> None:
    judgement = judged(COUNT, entry(COUNT, before, before, attempted=(asked,)), found)
    assert (judgement.status is None and judgement.value == before) == mine


def test_a_switch_does_not_round() -> None:
    switch = ControlSpec("run", Unit.COUNT, Scope.HOST, "a switch", "run", choices=(0, 1, 2))
    assert judged(switch, entry(switch, 0, 0, attempted=(1,)), 2).status is Status.LEFT_ALONE


kernel = st.integers(min_value=1, max_value=12).map(lambda bits: 1 << bits)


@given(kernel, st.integers(1, 1 << 20), st.integers(1, 1 << 20), st.integers(1, 1 << 30), st.booleans())
def test_whatever_a_kernel_rounds_to_a_late_command_is_moms(grain: int, before: int, applied: int, asked: int, up: bool) -> None:
    rounded = (asked // grain + up) * grain
    noted = entry(COUNT, before * grain, applied * grain, attempted=(asked,))
    assert judged(COUNT, noted, rounded).status is not Status.LEFT_ALONE or (up and asked % grain == 0)


# --- what is not told at once --------------------------------------------------------------------------------------------------------


def test_what_a_busy_hypervisor_does_not_tell_at_once_is_asked_for_again_before_it_is_given_up() -> None:
    stands: dict[Target, Value] = {}
    noted = entry(COUNT, 5, 7)
    target = Target(noted.entity, COUNT.name)
    asked: list[float] = []

    def pause(seconds: float) -> None:
        asked.append(seconds)
        if len(asked) == 2:
            stands[target] = 7

    def write(changes: Sequence[Change]) -> None:
        stands.update((change.target, change.value) for change in changes)

    hypervisor = cast("Hypervisor", None)  # a control of the host: no guest is looked for
    outcomes = Controller({COUNT.name: COUNT}, hypervisor, lambda _: dict(stands), write, pause).put_back([noted])
    assert [(outcome.status, outcome.after) for outcome in outcomes] == [(Status.APPLIED, 5)]
    assert len(asked) == 2


def test_what_stays_unknown_is_not_put_back_blindly() -> None:
    hypervisor = cast("Hypervisor", None)  # as above
    written: list[Sequence[Change]] = []
    asked: list[float] = []
    outcomes = Controller({COUNT.name: COUNT}, hypervisor, lambda _: {}, written.append, asked.append).put_back([entry(COUNT, 5, 7)])
    assert [outcome.status for outcome in outcomes] == [Status.FAILED]
    assert not written
    assert sum(asked) < 2


# --- guests that are moving, missing, or of another hypervisor -------------------------------------------------------------------------


class Guests:
    """The guest `a`, whose size follows by some MiB for each time that mom waits, and what the hypervisor says of it each time."""

    def __init__(self, size: Value | HypervisorError, mib_each_time: int = 0) -> None:
        self.size, self.step = size, mib_each_time * MIB
        self.lists: list[list[Guest] | HypervisorError] = [[Guest("a", "a")]]
        """What it lists, one after the other; the last one stays."""
        self.written: list[Value] = []
        self.error: HypervisorError | None = None
        self.waited = 0.0

    def guests(self) -> list[Guest]:
        found = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        if isinstance(found, HypervisorError):
            raise found
        return found

    def wait(self, seconds: float) -> None:
        self.waited += seconds
        if isinstance(self.size, int):
            self.size += self.step

    def write(self, changes: Sequence[Change]) -> dict[Target, HypervisorError]:
        self.written += [change.value for change in changes]
        return {} if self.error is None else {change.target: self.error for change in changes}

    def put_back(self, noted: LedgerEntry, spec: ControlSpec = SIZE) -> Outcome:
        read = lambda targets: dict.fromkeys(targets, self.size)  # noqa: E731  # a hook
        (outcome,) = Controller({spec.name: spec}, cast("Hypervisor", self), read, self.write, self.wait).put_back([noted])
        return outcome


@pytest.mark.parametrize(("mib_each_time", "moms"), [(-20, True), (0, False), (20, False)], ids=["on its way", "at rest", "on another way"])
def test_a_size_that_nothing_explains_is_moms_while_it_moves_to_what_mom_asked_for(mib_each_time: int, moms: bool) -> None:
    host = Guests(1500 * MIB, mib_each_time)
    assert (host.put_back(entry(SIZE, 2 * GIB, GIB)).status is Status.APPLIED) is moms
    assert host.written == ([2 * GIB] if moms else [])


def test_a_size_that_is_known_is_not_watched_and_one_that_follows_is_waited_for() -> None:
    host = Guests(GIB, 300)
    outcome = host.put_back(entry(SIZE, 2 * GIB, GIB))
    assert (outcome.status, outcome.after) == (Status.APPLIED, GIB + 5 * 300 * MIB)
    assert host.waited == pytest.approx(0.5)
    host = Guests(GIB)
    assert host.put_back(entry(SIZE, 2 * GIB, GIB)).status is Status.APPLIED
    assert host.waited == pytest.approx(0.2), "it stands still"
    host = Guests(GIB)
    host.error = HypervisorError("no answer")
    assert host.put_back(entry(SIZE, 2 * GIB, GIB)).status is Status.FAILED
    assert host.waited == 0.0


MISSING: dict[str, tuple[list[list[Guest] | HypervisorError], Status, str]] = {
    "once": ([[], [Guest("a", "a")]], Status.APPLIED, ""),
    "twice": ([[], []], Status.GONE, "the guest is not there any more"),
    "started anew": ([[Guest("a", "a", incarnation="2")]], Status.GONE, "the guest was started anew since"),
    "no list": ([HypervisorError("libvirtd is away")], Status.FAILED, "libvirtd is away"),
    "no second list": ([[], HypervisorError("libvirtd is away")], Status.FAILED, "libvirtd is away"),
}


@pytest.mark.parametrize(("lists", "status", "why"), MISSING.values(), ids=MISSING)
def test_a_guest_is_gone_when_two_lists_say_so(lists: list[list[Guest] | HypervisorError], status: Status, why: str) -> None:
    host = Guests(GIB)
    host.lists = lists
    outcome = host.put_back(entry(SIZE, 2 * GIB, GIB))
    assert (outcome.status, outcome.error) == (status, why)


def test_a_guest_of_another_hypervisor_is_not_gone_as_this_one_does_not_list_it() -> None:
    host = Guests(NotSupported("the guest is another hypervisor's"))
    host.lists = [[]]
    assert host.put_back(entry(SIZE, 2 * GIB, GIB)).status is Status.FAILED


def test_what_another_process_has_changed_of_a_list_is_said_also_where_the_rest_is_put_back() -> None:
    host = Guests(disks(x=50, y=70))
    host.write = lambda changes: setattr(host, "size", disks(x=100, y=70)) or {}  # type: ignore[method-assign,func-returns-value]  # a hook
    outcome = host.put_back(entry(DISKS, disks(x=100, y=100), disks(x=50, y=50)), DISKS)
    assert (outcome.status, outcome.error) == (Status.LEFT_ALONE, "another process has changed y")
