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
    GuestGone,
    HypervisorError,
    InTransition,
    LedgerEntry,
    NotSupported,
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
