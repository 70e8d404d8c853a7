"""Restoring present values, case by case."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import (
    Change,
    ControlSpec,
    Decision,
    Entity,
    Guest,
    GuestGone,
    HypervisorError,
    LedgerEntry,
    NoChangeNeeded,
    NotSupported,
    Outcome,
    Refused,
    Scope,
    Status,
    Target,
    Unit,
    Value,
)
from mom_core.engine.judgement import Controller, change_result, judged, restore_result, without_writing

if TYPE_CHECKING:
    from mom_core.plugins.registry import Hooks

MIB = 1024
GIB = 1024 * MIB
TOLERANCE = 16 * MIB

SIZE = ControlSpec("size", Unit.KIB, Scope.GUEST, "a guest's size", "size", tolerance=TOLERANCE, gradual=512)
COUNT = ControlSpec("count", Unit.COUNT, Scope.HOST, "a knob", "count")
DISKS = ControlSpec("disks", Unit.LIST, Scope.GUEST, "limits", "disks", key="name")


def controller(
    hypervisor: Any,
    read: Callable[[Any], object],
    write: Callable[[Any], object],
    sleep: Callable[[float], None] = time.sleep,
    spec: ControlSpec = COUNT,
) -> Controller:
    hooks: Hooks = {"mom_read": lambda given: read(given["targets"]), "mom_write": lambda given: write(given["changes"])}
    return Controller({spec.name: spec}, hooks, hypervisor, sleep)


def entry(spec: ControlSpec, before: Value, applied: Value, attempted: tuple[Value, ...] = ()) -> LedgerEntry:
    return LedgerEntry(Entity(spec.scope, "a", "a"), spec.name, before, applied, "plugin", 0.0, attempted=attempted)


def disks(**limits: int) -> Value:
    return [{"name": name, "limit": limit} for name, limit in limits.items()]


NEAR = ControlSpec("near", Unit.COUNT, Scope.HOST, "a knob", "near", tolerance=2)
LIMIT = ControlSpec("limit", Unit.KIB, Scope.GUEST, "a limit", "limit")
SHARE = ControlSpec("share", Unit.RATIO, Scope.HOST, "a share", "share")
TWO = entry(DISKS, disks(a=1, b=2), disks(a=10, b=20))
FOREIGN = "another process has set it to"
ASKED = ", not to the 1.00 GiB that mom had asked for"
CHANGED_B = "another process has changed b"


@pytest.mark.parametrize(
    ("spec", "noted", "found", "status", "value", "reason"),
    [
        (COUNT, entry(COUNT, 5, 7), 5, Status.UNCHANGED, None, ""),
        (COUNT, entry(COUNT, 5, 7), 7, None, 5, ""),
        (COUNT, entry(COUNT, 5, 7), 6, Status.LEFT_ALONE, None, f"{FOREIGN} 6"),
        (COUNT, entry(COUNT, 5, 7), None, Status.FAILED, None, "the present value of count is unknown"),
        (COUNT, entry(COUNT, 5, 7), HypervisorError("no answer"), Status.FAILED, None, "no answer"),
        (COUNT, entry(COUNT, 5, 7), NotSupported("no such knob"), Status.GONE, None, "no such knob"),
        (COUNT, entry(COUNT, 5, 7), Refused("the kernel's"), Status.LEFT_ALONE, None, "the kernel's"),
        (COUNT, entry(COUNT, 5, 7, (9,)), 5, None, 5, ""),  # the unanswered command may still take effect
        (COUNT, entry(COUNT, None, 7), 7, Status.FAILED, None, "the ledger does not contain the original value"),
        (COUNT, entry(COUNT, "much", 7), 7, Status.FAILED, None, "'much' cannot be the original value of count"),
        (NEAR, entry(NEAR, 5, 9), 6, Status.UNCHANGED, None, ""),
        (LIMIT, entry(LIMIT, 2 * GIB, GIB), -1, Status.LEFT_ALONE, None, f"{FOREIGN} -1"),
        # sizes
        (SIZE, entry(SIZE, 2 * GIB, GIB), 2 * GIB, None, 2 * GIB, ""),  # otherwise, it would change after mom's end
        (SIZE, entry(SIZE, 2 * GIB, 2 * GIB), 2 * GIB, Status.UNCHANGED, None, ""),
        (SIZE, entry(SIZE, 2 * GIB, 2 * GIB), 2 * GIB - 8 * MIB, None, 2 * GIB, ""),
        (SIZE, entry(SIZE, 2 * GIB, GIB), 900 * MIB, Status.LEFT_ALONE, None, f"{FOREIGN} 900 MiB{ASKED}"),
        # lists
        (DISKS, entry(DISKS, [], []), GuestGone("gone"), Status.GONE, None, "gone"),
        (DISKS, entry(DISKS, [], []), NotSupported("another hypervisor"), Status.FAILED, None, "another hypervisor"),
        (DISKS, TWO, disks(a=10, b=99), None, disks(a=1), CHANGED_B),
        (DISKS, TWO, disks(a=10), None, disks(a=1), ""),
        (DISKS, TWO, disks(a=10, c=5), None, disks(a=1), ""),
        (DISKS, TWO, [{"limit": 7}, {"name": "a", "limit": 10}], None, disks(a=1), ""),
        (DISKS, TWO, disks(a=99), Status.LEFT_ALONE, None, "another process has changed a"),
        (DISKS, TWO, disks(a=1, b=2), Status.UNCHANGED, None, ""),
        (DISKS, TWO, disks(c=7), Status.UNCHANGED, None, ""),
        (DISKS, entry(DISKS, disks(a=1, b=2), disks(b=20), (disks(a=10),)), disks(a=1, b=2), None, disks(a=1), ""),
        # rounded by the kernel to multiples of 8, and not read back
        (COUNT, entry(COUNT, 1000, 1000, (399,)), 392, None, 1000, ""),
        (COUNT, entry(COUNT, 1000, 1000, (399,)), 400, None, 1000, ""),
        (COUNT, entry(COUNT, 1000, 1000, (399,)), 384, Status.LEFT_ALONE, None, f"{FOREIGN} 384"),  # more than one of 8 away
        (COUNT, entry(COUNT, 1000, 1000, (399,)), 393, Status.LEFT_ALONE, None, f"{FOREIGN} 393"),  # keeping 393 is not rounding
        (COUNT, entry(COUNT, -1, -1, (399,)), 396, None, -1, ""),  # no limit before
        (COUNT, entry(COUNT, -1, -1, (399,)), 700, Status.LEFT_ALONE, None, f"{FOREIGN} 700"),
        (COUNT, entry(COUNT, 0, 0, (399,)), 396, None, 0, ""),  # 0 is a multiple of everything
        (COUNT, entry(COUNT, 0, 0, (399,)), 700, Status.LEFT_ALONE, None, f"{FOREIGN} 700"),
        (COUNT, entry(COUNT, 1000, 1000, ("max",)), 700, Status.LEFT_ALONE, None, f"{FOREIGN} 700"),
        (SHARE, entry(SHARE, 0.5, 0.5, (0.7,)), 0.25, Status.LEFT_ALONE, None, f"{FOREIGN} 0.25"),
    ],
)
def test_a_restore_follows_from_the_ledger_and_the_present_value(
    spec: ControlSpec, noted: LedgerEntry, found: Any, status: Status | None, value: Value, reason: str
) -> None:
    judgement = judged(spec, noted, found)
    assert (judgement.status, judgement.value, judgement.reason) == (status, value, reason)


kernel = st.integers(min_value=1, max_value=12).map(lambda bits: 1 << bits)


@given(kernel, st.integers(1, 1 << 20), st.integers(1, 1 << 20), st.integers(1, 1 << 30), st.booleans())
def test_whatever_a_kernel_rounds_to_a_late_command_is_moms(grain: int, before: int, applied: int, asked: int, up: bool) -> None:
    rounded = (asked // grain + up) * grain
    noted = entry(COUNT, before * grain, applied * grain, attempted=(asked,))
    assert judged(COUNT, noted, rounded).status is not Status.LEFT_ALONE or (up and asked % grain == 0)


# --- results of a change -----------------------------------------------------------------------------------------------------------

SWITCH = ControlSpec("run", Unit.COUNT, Scope.HOST, "a switch", "run", choices=(0, 1, 2))


RENEWED = ControlSpec("hold", Unit.COUNT, Scope.HOST, "a knob that holds for one cycle", "hold", renewed=True)


def a_change(spec: ControlSpec, found: Value, wanted: Value) -> Change:
    return Change(Target(Entity(spec.scope, "a", "a"), spec.name), wanted, found)


@pytest.mark.parametrize(
    ("spec", "found", "stands", "said", "expected"),
    [
        (COUNT, 5, 5, NoChangeNeeded("it is quiet"), (Status.UNCHANGED, 5, "it is quiet")),
        (SIZE, 5, 5, GuestGone("gone"), (Status.GONE, None, "gone")),
        (SIZE, 5, GuestGone("gone"), None, (Status.GONE, None, "gone")),
        (COUNT, 5, 5, Refused("no"), (Status.REFUSED, 5, "no")),
        (COUNT, 5, None, Refused("no"), (Status.REFUSED, 5, "no")),
        (COUNT, None, 7, Refused("no"), (Status.REFUSED, None, "no")),
        (COUNT, 5, 7, Refused("no"), (Status.FAILED, 7, "no")),  # done in part
        (SIZE, 5 * GIB, 7 * GIB, Refused("no"), (Status.REFUSED, 5 * GIB, "no")),  # it is moving
        (COUNT, 5, 5, HypervisorError("lost"), (Status.FAILED, 5, "lost")),
        (COUNT, 5, None, HypervisorError("lost"), (Status.FAILED, None, "lost")),
        (COUNT, 5, 399, HypervisorError("lost"), (Status.APPLIED, 399, "")),  # only the answer was lost
        (SIZE, 5, 399, HypervisorError("lost"), (Status.FAILED, None, "lost")),  # it may be moving
        (COUNT, 5, 399, "slowly", (Status.APPLIED, 399, "slowly")),
        (COUNT, 5, None, "slowly", (Status.APPLIED, None, "slowly")),
        (COUNT, 5, None, None, (Status.APPLIED, None, "mom set the control, but its present value is unknown")),
        (COUNT, 5, HypervisorError("busy"), None, (Status.APPLIED, None, "mom set the control, but its present value is unknown: busy")),
        (COUNT, None, 392, None, (Status.APPLIED, 392, "")),
        (COUNT, 399, 399, None, (Status.APPLIED, 399, "")),
        (RENEWED, 399, 399, None, (Status.UNCHANGED, 399, "")),
        (RENEWED, 5, 399, None, (Status.APPLIED, 399, "")),
    ],
)
def test_the_result_of_a_change_follows_from_answer_and_value(
    spec: ControlSpec, found: Value, stands: Any, said: Any, expected: object
) -> None:
    assert change_result(spec, a_change(spec, found, 399), stands, said) == expected


@pytest.mark.parametrize(
    ("spec", "found", "stands", "said", "status"),
    [
        (COUNT, 7, 7, NoChangeNeeded("it is quiet"), Status.LEFT_ALONE),
        (COUNT, 5, 5, None, Status.UNCHANGED),
        (COUNT, 5, None, None, Status.APPLIED),
        (COUNT, 5, 9, None, Status.FAILED),
        (COUNT, None, 5, None, Status.APPLIED),
        (COUNT, 7, 5, None, Status.APPLIED),
        (COUNT, 7, 6, None, Status.APPLIED),  # rounded
        (COUNT, 7, 9, None, Status.FAILED),  # farther away
        (COUNT, 7, 7, Refused("no"), Status.FAILED),  # stays in the ledger
        (SIZE, 5, 5, None, Status.APPLIED),  # unchanged at the end
        (SIZE, 5 * GIB, 6 * GIB, None, Status.APPLIED),  # it has not moved yet
    ],
)
def test_what_was_not_put_back_has_failed_whatever_was_said(
    spec: ControlSpec, found: Value, stands: Value, said: Any, status: Status
) -> None:
    assert restore_result(spec, a_change(spec, found, 5), stands, said)[0] is status


ROUNDED = entry(COUNT, 5, 399)._replace(found=392)


@pytest.mark.parametrize(
    ("spec", "found", "noted", "status"),
    [
        (COUNT, HypervisorError("busy"), None, Status.FAILED),
        (SIZE, GuestGone("gone"), None, Status.GONE),
        (COUNT, Refused("no"), None, Status.REFUSED),
        (COUNT, None, None, Status.REFUSED),  # cannot be restored
        (COUNT, None, ROUNDED, None),
        (COUNT, 5, None, None),
        (COUNT, 399, None, Status.UNCHANGED),
        (COUNT, ControlSpec.InTransition(399), None, None),
        (SIZE, 399, None, None),  # the controller reports it
        (RENEWED, 399, None, None),
        (COUNT, 392, None, None),
        (COUNT, 392, ROUNDED, Status.UNCHANGED),  # the kernel would round it again
        (COUNT, 384, ROUNDED, None),
        (COUNT, 392, ROUNDED._replace(in_doubt=True), None),
        (COUNT, 392, ROUNDED._replace(attempted=(399,)), None),
        (COUNT, 392, ROUNDED._replace(applied=398), None),
    ],
)
def test_decisions_that_need_no_write(spec: ControlSpec, found: Any, noted: LedgerEntry | None, status: Status | None) -> None:
    decision = Decision(Entity(spec.scope, "a", "a"), spec.name, 399)
    outcome = without_writing(spec, decision, found, noted)
    assert (None if outcome is None else outcome.status) is status


@pytest.mark.parametrize(
    ("spec", "found", "wanted", "stands", "status"),
    [
        (COUNT, 5, 399, 392, Status.APPLIED),  # the kernel rounds
        (COUNT, 5, 399, 5, Status.FAILED),
        (COUNT, 5, 399, None, Status.APPLIED),
        (SWITCH, 0, 1, 1, Status.APPLIED),
        (SWITCH, 0, 1, 2, Status.FAILED),
        (DISKS, disks(a=1), disks(a=10), disks(a=10, b=5), Status.APPLIED),
        (DISKS, disks(a=1), disks(a=10), disks(a=8), Status.FAILED),
        (DISKS, disks(a=1), disks(a=10), disks(b=5), Status.FAILED),  # the item is gone
    ],
)
def test_a_change_without_remarks_is_judged_by_the_value(
    spec: ControlSpec, found: Value, wanted: Value, stands: Value, status: Status
) -> None:
    assert change_result(spec, a_change(spec, found, wanted), stands, None)[0] is status


def test_a_guest_without_a_value_is_gone_only_if_unlisted() -> None:
    told, silent, gone = (Target(Entity(Scope.GUEST, name, name), COUNT.name) for name in ("told", "silent", "gone"))
    host = Guests(5)
    host.lists = [[Guest("silent", "silent")]]
    found = controller(host, lambda _: {told: 7}, host.write).read([told, silent, gone])
    assert (found[told], found[silent]) == (7, None), "it was started since, or is busy"
    assert isinstance(found[gone], GuestGone)


# --- late answers --------------------------------------------------------------------------------------------------------


def test_an_unknown_value_is_read_again() -> None:
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

    # A control of the host needs no guest.
    outcomes = controller(None, lambda _: dict(stands), write, pause).put_back([noted])
    assert [(outcome.status, outcome.after) for outcome in outcomes] == [(Status.APPLIED, 5)]
    assert len(asked) == 2


# --- guests that are moving, missing, or of another hypervisor -------------------------------------------------------------------------


class Guests:
    """Guest `a`. Its size follows by some MiB each time mom waits. The hypervisor's answers are set."""

    def __init__(self, size: Value | HypervisorError, mib_each_time: int = 0) -> None:
        self.size, self.step = size, mib_each_time * MIB
        self.lists: list[list[Guest] | HypervisorError] = [[Guest("a", "a")]]
        """Lists of guests, one after the other. The last one stays."""
        self.written: list[Value] = []
        self.error: HypervisorError | None = None

    def guests(self) -> list[Guest]:
        found = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        if isinstance(found, HypervisorError):
            raise found
        return found

    def wait(self, seconds: float) -> None:
        if isinstance(self.size, int):
            self.size += self.step

    def write(self, changes: Sequence[Change]) -> dict[Target, HypervisorError]:
        self.written += [change.value for change in changes]
        return {} if self.error is None else {change.target: self.error for change in changes}

    def put_back(self, noted: LedgerEntry, spec: ControlSpec = SIZE) -> Outcome:
        read = lambda targets: dict.fromkeys(targets, self.size)  # noqa: E731  # a hook
        (outcome,) = controller(self, read, self.write, self.wait, spec).put_back([noted])
        return outcome


@pytest.mark.parametrize(("mib_each_time", "moms"), [(-20, True), (0, False), (20, False)], ids=["on its way", "at rest", "on another way"])
def test_an_unexplained_size_is_moms_if_it_moves_to_moms_target(mib_each_time: int, moms: bool) -> None:
    host = Guests(1500 * MIB, mib_each_time)
    assert (host.put_back(entry(SIZE, 2 * GIB, GIB)).status is Status.APPLIED) is moms
    assert host.written == ([2 * GIB] if moms else [])


@pytest.mark.parametrize("lists", [[HypervisorError("libvirtd is away")], [[], HypervisorError("libvirtd is away")]])
def test_a_guest_is_not_gone_while_the_hypervisor_does_not_answer(lists: list[list[Guest] | HypervisorError]) -> None:
    host = Guests(GIB)
    host.lists = lists
    outcome = host.put_back(entry(SIZE, 2 * GIB, GIB))
    assert (outcome.status, outcome.error) == (Status.FAILED, "libvirtd is away")


def test_a_guest_of_another_hypervisor_is_not_gone() -> None:
    host = Guests(NotSupported("the guest is another hypervisor's"))
    host.lists = [[]]
    assert host.put_back(entry(SIZE, 2 * GIB, GIB)).status is Status.FAILED


def test_a_partial_restore_of_a_list_names_the_items_left_alone() -> None:
    host = Guests(disks(x=50, y=70))
    host.write = lambda changes: setattr(host, "size", disks(x=100, y=70)) or {}  # type: ignore[method-assign,func-returns-value]  # a hook
    outcome = host.put_back(entry(DISKS, disks(x=100, y=100), disks(x=50, y=50)), DISKS)
    assert (outcome.status, outcome.error) == (Status.LEFT_ALONE, "another process has changed y")
