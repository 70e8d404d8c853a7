"""Setting KSM's knobs and putting them back, on whatever reads and writes them, with every result read back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mom_core import ControlSpec, Decision, GuestBusy, HypervisorError, KsmControl, LedgerEntry, Outcome, Scope, Source, Status, Unit, Value
from mom_plugins_ksm.fields import is_count
from mom_plugins_ksm.sysfs import ADVISOR_CURE

RUN, MERGE_ACROSS_NODES, SLEEP, PAGES_TO_SCAN = "run", "merge_across_nodes", "sleep_millisecs", "pages_to_scan"
STOPPED, MERGING, UNMERGED = 0, 1, 2

CONTROLS = (
    ControlSpec(
        "ksm_run",
        Unit.COUNT,
        Scope.HOST,
        "1: merge; 0: stop, keep what is merged; 2: stop and unmerge everything",
        "ksm_run",
        choices=(STOPPED, MERGING, UNMERGED),
    ),
    ControlSpec(
        "ksm_pages_to_scan",
        Unit.PAGES,
        Scope.HOST,
        "pages that ksmd looks at before it sleeps; the kernel's advisor owns this while it is on",
        "ksm_pages_to_scan",
        1,
        1_000_000,  # 4 GiB at one go, some seconds of one CPU: more would be no batch any more
    ),
    ControlSpec(
        "ksm_sleep_millisecs",
        Unit.MILLISECONDS,
        Scope.HOST,
        "how long ksmd sleeps between two batches",
        "ksm_sleep_millisecs",
        1,  # with 0 ksmd never sleeps and keeps one CPU busy
        60_000,  # a longer sleep is a stop that does not look like one
    ),
    ControlSpec(
        "ksm_merge_across_nodes",
        Unit.FLAG,
        Scope.HOST,
        "1: also merge pages of different NUMA nodes; can change only while nothing is merged",
        "ksm_merge_across_nodes",
    ),
)

_SPECS = {spec.name: spec for spec in CONTROLS}
_BUSY_TRIES = 10
_BUSY_PAUSE = 0.05
"""After everything was unmerged the kernel may hold a few shared pages for a moment; half a second is plenty for that."""


def knob_of(control: str) -> str:
    """The file in /sys/kernel/mm/ksm that a control sets."""
    return control.removeprefix("ksm_")


@dataclass(frozen=True, slots=True)
class Result:
    """What a write came to: everything that is known then, what the knob stands at, whether that was wanted, and why not."""

    found: Mapping[str, Value]
    after: Value
    status: Status
    error: str = ""


@dataclass(frozen=True, slots=True)
class Knobs:
    """KSM's knobs during one call: what stands there, and how it is changed.

    :param ksm: what reads and writes them
    :param page_size: bytes
    :param available_kib: memory that the host can still give; None when that is unknown or somebody else's concern
    """

    ksm: KsmControl
    page_size: int
    available_kib: Callable[[], int | None]

    def read(self) -> Mapping[str, Value]:
        """What stands there now. Raises `HypervisorError`."""
        return self.ksm.ksm_read()

    def refusal(self, knob: str, value: int, found: Mapping[str, Value]) -> str:
        """Why that must not be sent; empty when it may."""
        if knob not in found:
            return f"this kernel has no KSM knob {knob}"
        if knob == PAGES_TO_SCAN and _advisor(found):
            return f"the kernel's advisor ({_advisor(found)}) sets pages_to_scan by itself; to set it, first {ADVISOR_CURE}"
        if knob == RUN and value == UNMERGED and found[RUN] != UNMERGED:
            return self._unmerge_refusal(found)
        return ""

    def _unmerge_refusal(self, found: Mapping[str, Value]) -> str:
        # Unmerging makes a copy of every shared page, and since Linux 6.6 an empty page for every place where the kernel's own stands. When
        # memory runs out on the way, the kernel kills who asked: mom.
        sharing, empty, available = found.get("pages_sharing"), found.get("ksm_zero_pages"), self.available_kib()
        if not is_count(sharing) or available is None:
            return ""
        sharing += empty if is_count(empty) else 0
        needed = sharing * self.page_size // 1024
        if needed < available:
            return ""
        return f"unmerging {sharing} pages takes {needed // 1024} MiB and only {available // 1024} MiB are available; stop guests first"

    def set(self, knob: str, value: int, found: Mapping[str, Value]) -> Result:
        """Write one knob and read back what stands there then.

        :param found: what stood there before
        """
        try:
            self.ksm.ksm_write({knob: value})
        except HypervisorError as error:
            return Result(found, found.get(knob), Status.FAILED, str(error))
        try:
            found = self.read()
        except HypervisorError as error:
            return Result(found, None, Status.FAILED, f"it was written, but could not be read back: {error}")
        after = found.get(knob)
        if after == value:
            return Result(found, after, Status.APPLIED)
        return Result(
            found, after, Status.FAILED, f"the kernel kept {'something unreadable' if after is None else after} instead of {value}"
        )

    def set_together(self, wanted: Mapping[str, int], found: Mapping[str, Value]) -> dict[str, Result]:
        """Write several knobs in one call, in this order, and read back what stands there then.

        What follows a knob that is refused was not written: all that do not stand are tried again, one by one, which also tells which one
        it was. Not after a call that was not answered: it may still take effect, and each attempt would wait as long.

        :param found: what stood there before
        """
        if len(wanted) < 2:
            return {knob: self.set(knob, value, found) for knob, value in wanted.items()}
        refused: HypervisorError | None = None
        try:
            self.ksm.ksm_write(wanted)
        except HypervisorError as error:
            refused = error
        try:
            found = self.read()
        except HypervisorError as error:
            unread = str(refused or f"they were written, but could not be read back: {error}")
            return {knob: Result(found, None, Status.FAILED, unread) for knob in wanted}
        results = {}
        for knob, value in wanted.items():
            after = found.get(knob)
            if after == value:
                results[knob] = Result(found, after, Status.APPLIED)
            elif isinstance(refused, GuestBusy):
                results[knob] = Result(found, after, Status.FAILED, str(refused))
            else:
                results[knob] = self.set(knob, value, found)
                found = results[knob].found
        return results


def apply(knobs: Knobs, decisions: Sequence[Decision]) -> list[Outcome]:
    """Set what was decided, all in one call: a management system takes them together. One outcome for each decision."""
    try:
        found = knobs.read()
    except HypervisorError as error:
        return [Outcome(decision, None, None, Status.FAILED, str(error)) for decision in decisions]
    outcomes: list[Outcome] = []
    due: dict[str, tuple[Decision, int]] = {}
    for decision in sorted(decisions, key=_turn):
        knob, value = knob_of(decision.control), whole(decision.value)
        before = found.get(knob)
        refusal = "" if value is None else knobs.refusal(knob, value, found)
        if value is None or not _within_bounds(decision.control, value):
            outcomes.append(
                Outcome(decision, before, before, Status.REFUSED, f"{decision.value!r:.40} makes no sense for {decision.control}")
            )
        elif before == value:
            outcomes.append(Outcome(decision, before, before, Status.UNCHANGED))
        elif refusal:
            outcomes.append(Outcome(decision, before, before, Status.REFUSED, refusal))
        else:
            due[knob] = (decision, value)
    results = knobs.set_together({knob: value for knob, (_, value) in due.items()}, found)
    for knob, (decision, _) in due.items():
        result = results[knob]
        outcomes.append(Outcome(decision, found.get(knob), result.after, result.status, result.error))
    return outcomes


def restore(knobs: Knobs, entries: Sequence[LedgerEntry], source: Source) -> list[Outcome]:
    """Put back what stood there before mom, unless somebody else has changed it since."""
    decisions = [Decision(entry.entity, entry.control, entry.before, "to stand as it did before mom", source) for entry in entries]
    try:
        found = knobs.read()
    except HypervisorError as error:
        return [Outcome(decision, None, None, Status.FAILED, str(error)) for decision in decisions]
    outcomes: list[Outcome] = []
    due: list[Decision] = []
    for entry, decision in zip(entries, decisions, strict=True):
        verdict = _verdict(entry, found)
        if verdict is None:
            due.append(decision)
        else:
            now = found.get(knob_of(entry.control))
            outcomes.append(Outcome(decision, now, now, *verdict))
    return outcomes + _put_back(knobs, due, found)


def _verdict(entry: LedgerEntry, found: Mapping[str, Value]) -> tuple[Status, str] | None:
    """What becomes of an entry for which nothing must be written; None when something must."""
    knob = knob_of(entry.control)
    now = found.get(knob)
    if entry.control not in _SPECS or whole(entry.before) is None:
        return Status.FAILED, f"the ledger does not say what to put back for {entry.control}"
    if now is None:
        return Status.GONE, f"this kernel has no KSM knob {knob}"
    if now == entry.before:
        return Status.UNCHANGED, ""
    if knob == PAGES_TO_SCAN and _advisor(found):
        return Status.LEFT_ALONE, f"the kernel's advisor ({_advisor(found)}) was switched on since and sets pages_to_scan by itself"
    if not entry.explains(now):
        return Status.LEFT_ALONE, f"somebody else set it to {now} since mom set it to {entry.applied}"
    return None


def _put_back(knobs: Knobs, due: Sequence[Decision], found: Mapping[str, Value]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for decision in sorted(due, key=_turn):
        knob, value = knob_of(decision.control), whole(decision.value)
        assert value is not None  # noqa: S101  # _verdict has seen to that
        before = found.get(knob)
        refusal = knobs.refusal(knob, value, found)
        if refusal:
            outcomes.append(Outcome(decision, before, before, Status.FAILED, refusal))
            continue
        result = _put_merge_across_nodes_back(knobs, value, found) if knob == MERGE_ACROSS_NODES else knobs.set(knob, value, found)
        found = result.found
        outcomes.append(Outcome(decision, before, result.after, result.status, result.error))
    return outcomes


def _put_merge_across_nodes_back(knobs: Knobs, value: int, found: Mapping[str, Value]) -> Result:
    """Write it; when the kernel refuses because pages are shared, unmerge everything first, if memory allows, and let `run` stand again."""
    result, run = knobs.set(MERGE_ACROSS_NODES, value, found), found.get(RUN)
    if result.status is Status.APPLIED or not found.get("pages_shared") or not is_count(run):
        return result
    hindrance = knobs.refusal(RUN, UNMERGED, found)
    if hindrance:
        return replace(result, error=f"{result.error}; {hindrance}")
    unmerged = knobs.set(RUN, UNMERGED, found)
    if unmerged.status is not Status.APPLIED:
        return replace(result, found=unmerged.found, error=f"{result.error}; unmerging failed: {unmerged.error}")
    for _ in range(_BUSY_TRIES):
        result = knobs.set(MERGE_ACROSS_NODES, value, unmerged.found)
        if result.status is Status.APPLIED:
            break
        time.sleep(_BUSY_PAUSE)
    running = knobs.set(RUN, run, result.found)
    if running.status is not Status.APPLIED:
        return replace(
            result, status=Status.FAILED, error=f"all pages were unmerged for it, and run could not be set again: {running.error}"
        )
    return replace(result, found=running.found)


def _turn(decision: Decision) -> int:
    """Stopping comes first, so that nothing is merged meanwhile; starting comes last, so that ksmd begins at the right speed."""
    knob = knob_of(decision.control)
    if knob == RUN:
        return 4 if decision.value == MERGING else 0
    return {MERGE_ACROSS_NODES: 1, SLEEP: 2}.get(knob, 3)


def _advisor(found: Mapping[str, Value]) -> str:
    """The kernel's advisor that is on; empty when there is none."""
    mode = found.get("advisor_mode")
    return mode if isinstance(mode, str) and mode != "none" else ""


def _within_bounds(control: str, value: int) -> bool:
    spec = _SPECS.get(control)
    return spec is not None and spec.minimum is not None and spec.maximum is not None and spec.minimum <= value <= spec.maximum


def whole(value: Value) -> int | None:
    """The whole number that a value is; None when it is none."""
    if isinstance(value, int):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else None
