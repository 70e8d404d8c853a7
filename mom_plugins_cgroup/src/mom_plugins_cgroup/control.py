"""Setting controls and putting them back, with every result read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mom_core import Decision, GuestGone, HypervisorError, LedgerEntry, NotSupported, Outcome, PermissionDenied, Source, Status, Value
from mom_plugins_cgroup.devices import back_to, by_device
from mom_plugins_cgroup.files import Files
from mom_plugins_cgroup.groups import Group, GuestGroups, hindrance, present, put
from mom_plugins_cgroup.names import CPU_WEIGHT, LIST_CONTROLS

GONE = "the guest is not there any more"
STARTED_ANEW = "the guest was started anew since"
_GROUP_GONE = "its control group is gone"


def set_one(decision: Decision, groups: GuestGroups, files: Files, expected: Sequence[Value]) -> tuple[Outcome, HypervisorError | None]:
    """Set one control; also the error that will come again each time, if there is one.

    :param expected: what may stand there now: what the snapshot says, and what mom itself has set last. Anything else was set by somebody
        else since, and what would be put back later is not known to the ledger: it is refused until the next cycle has seen it
    """
    control = decision.control
    group = groups.group_of(control)
    reason = hindrance(control, groups)
    if group is None or reason:
        return Outcome(decision, None, None, Status.REFUSED, reason), None
    before = present(control, group, files)
    if before is None:
        return _unreadable(decision, group), None
    if _same(control, before, decision.value):
        return Outcome(decision, before, before, Status.UNCHANGED), None
    if not any(_same(control, before, one) for one in expected):
        return Outcome(decision, before, before, Status.REFUSED, f"somebody else has just set it to {before!r:.100}; looked at again"), None
    try:
        put(control, decision.value, group, files)
    except GuestGone as error:
        return Outcome(decision, before, None, Status.GONE, str(error)), None
    except (NotSupported, PermissionDenied) as error:
        after = present(control, group, files)
        return Outcome(decision, before, after, Status.REFUSED if after == before else Status.FAILED, str(error)), error
    except HypervisorError as error:
        return Outcome(decision, before, present(control, group, files), Status.FAILED, str(error)), None
    return _read_back(decision, before, present(control, group, files)), None


def put_back(entry: LedgerEntry, groups: GuestGroups, files: Files, source: Source) -> Outcome:
    """Let what stood there before mom stand again, unless somebody else has changed it since."""
    control = entry.control
    decision = decision_of(entry, source)
    group = groups.group_of(control)
    if group is None:
        gone = groups.pressure is not None and not Path(groups.pressure).is_dir()
        why = _GROUP_GONE if gone else hindrance(control, groups)
        return Outcome(decision, None, None, Status.GONE if gone else Status.FAILED, why)
    now = present(control, group, files)
    if now is None:
        unreadable = _unreadable(decision, group)
        return Outcome(decision, None, None, Status.GONE if unreadable.status is Status.GONE else Status.FAILED, unreadable.error)
    if _same(control, now, entry.before):
        return Outcome(decision, now, now, Status.UNCHANGED)
    wanted, strange = _back(entry, now)
    if wanted is None:
        return Outcome(decision, now, now, Status.LEFT_ALONE, strange)
    try:
        put(control, wanted, group, files)
    except GuestGone as error:
        return Outcome(decision, now, None, Status.GONE, str(error))
    except HypervisorError as error:
        return Outcome(decision, now, present(control, group, files), Status.FAILED, str(error))
    after = present(control, group, files)
    if strange:
        return Outcome(decision, now, after, Status.LEFT_ALONE, strange)
    return _read_back(decision, now, after)


def decision_of(entry: LedgerEntry, source: Source) -> Decision:
    """What an outcome of putting back is about."""
    return Decision(entry.entity, entry.control, entry.before, "to stand as it did before mom", source)


def _back(entry: LedgerEntry, now: Value) -> tuple[Value, str]:
    """What to write, None for nothing, and what is somebody else's. Disks are looked at one by one."""
    control = entry.control
    if control not in LIST_CONTROLS:
        ours = entry.explains(now, _TOLERANCE.get(control, 0.0))
        return (entry.before, "") if ours else (None, f"somebody else has set it to {now!r:.100}")
    values = [by_device(control, value) for value in entry.ours]
    standing = by_device(control, now)
    before = {str(item["device"]): item for item in back_to(control, entry.before, now)}
    strange = [device for device in standing if all(standing[device] != value.get(device) for value in values)]
    kept: Mapping[str, Value] = {device: {"device": device, **standing[device]} for device in strange}
    wanted: list[Value] = list({**before, **kept}.values())
    return wanted, f"somebody else has changed {', '.join(strange)}" if strange else ""


_TOLERANCE = {CPU_WEIGHT: 0.05}
"""A share of 1024 is 0.098 %; half of that tells two of them apart."""


def _same(control: str, one: Value, other: Value) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= _TOLERANCE.get(control, 0.0)
    return one == other


def _unreadable(decision: Decision, group: Group) -> Outcome:
    if not Path(group.folder).is_dir():
        return Outcome(decision, None, None, Status.GONE, _GROUP_GONE)
    return Outcome(decision, None, None, Status.REFUSED, f"its control group has no file for {decision.control}")


def _read_back(decision: Decision, before: Value, after: Value) -> Outcome:
    if after is None or _same(decision.control, after, decision.value):
        return Outcome(decision, before, after, Status.APPLIED)
    return Outcome(decision, before, after, Status.FAILED, f"it was set, and {after!r:.100} stands")
