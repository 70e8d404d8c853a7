"""One control of one guest's group: how it is read and set, and why it cannot be."""

from __future__ import annotations

from pathlib import Path

from mom_core import GuestGone, HypervisorError, NotSupported, Value
from mom_plugins_cgroup.files import Files
from mom_plugins_cgroup.groups import ControlGroup, GuestGroups, hindrance, present, put

_GROUP_GONE = "its control group is gone"


def read(control: str, groups: GuestGroups, files: Files) -> Value | HypervisorError:
    """What it stands at; an error where there is no such thing, or not any more."""
    group = _group(control, groups)
    if isinstance(group, HypervisorError):
        return group
    value = present(control, group, files)
    if value is None and not Path(group.folder).is_dir():
        return GuestGone(_GROUP_GONE)
    return NotSupported(f"its control group has no file for {control}") if value is None else value


def write(control: str, value: Value, groups: GuestGroups, files: Files) -> None:
    """Set it. Raises `HypervisorError`."""
    group = _group(control, groups)
    if isinstance(group, HypervisorError):
        raise group
    put(control, value, group, files)


def _group(control: str, groups: GuestGroups) -> ControlGroup | HypervisorError:
    group, reason = groups.group_of(control), hindrance(control, groups)
    if group is not None and not reason:
        return group
    gone = groups.pressure is not None and not Path(groups.pressure).is_dir()
    return GuestGone(_GROUP_GONE) if gone else NotSupported(reason)
