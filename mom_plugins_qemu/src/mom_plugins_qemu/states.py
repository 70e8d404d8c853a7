"""The meaning of QEMU's words for a guest's state, and in which of them a guest is to be left alone."""

from __future__ import annotations

from typing import Final

MOVED_AWAY: Final = "postmigrate"
"""QEMU's word for a guest that goes on in another QEMU, perhaps on this host."""

COMING: Final = "inmigrate"
"""QEMU's word for a guest that waits for another QEMU's, or comes from there."""

_STATES: Final = {
    "running": ("running", ""),
    "paused": ("paused", "the guest is paused"),
    "suspended": ("suspended", "the guest is suspended"),
    "shutdown": ("shutting down", "the guest is shutting down"),
    "prelaunch": ("paused", "the guest is paused, starting up"),
    COMING: ("paused", "the guest is being migrated in"),
    MOVED_AWAY: ("paused", "the guest was migrated out"),
    "finish-migrate": ("paused", "the guest is being migrated out"),
    "restore-vm": ("paused", "the guest is being restored from a snapshot"),
    "save-vm": ("paused", "the guest is being snapshotted"),
    "io-error": ("paused", "the guest is paused, after an I/O error"),
    "watchdog": ("paused", "the guest is paused, by its watchdog"),
    "guest-panicked": ("crashed", "the guest is crashed"),
    "internal-error": ("crashed", "the guest is crashed, after an internal error of QEMU"),
    "debug": ("paused", "the guest is paused, by a debugger"),
    "colo": ("paused", "the guest is being mirrored"),
}
"""By QEMU's RunState: the name that people know, and why nothing may be changed then (empty: it may)."""

_MIGRATING: Final = frozenset(
    {"setup", "active", "pre-switchover", "device", "wait-unplug", "cancelling", "postcopy-active", "postcopy-paused", "postcopy-recover"}
)
"""QEMU's MigrationStatus while one is under way; `completed`, `failed` and `cancelled` stay for ever after one."""


def state_name(status: str) -> str:
    """This state's name for people."""
    return _STATES.get(status, ("unknown", ""))[0]


def why_left_alone(status: str, migration: str) -> str:
    """Why nothing may be changed on a guest in this state; empty when it may.

    :param migration: the status of its last migration; empty: it had none
    """
    known = _STATES.get(status)
    if known is None:
        return "the guest is in an unknown state"
    if known[1]:
        return known[1]
    return "the guest is being migrated" if migration in _MIGRATING else ""
