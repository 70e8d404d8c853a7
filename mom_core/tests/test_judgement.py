"""What becomes of what stands there when it is put back, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import (
    ControlSpec,
    Entity,
    GuestGone,
    HypervisorError,
    LedgerEntry,
    NotSupported,
    OnItsWay,
    Refused,
    Scope,
    Status,
    Unit,
    Value,
)
from mom_core.engine.judgement import judged

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
    assert judged(SIZE, entry(SIZE, 2 * GIB, GIB), OnItsWay(1536 * MIB)).value == 2 * GIB


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
