"""Guest states that QEMU reports."""

from __future__ import annotations

from typing import Final

MOVED_AWAY: Final = "postmigrate"
"""State of a guest that has migrated to another QEMU process, perhaps on this host."""

COMING: Final = "inmigrate"
"""State of a guest that is being migrated in, and waits for its memory from another QEMU process."""

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
    "colo": ("paused", "the guest is being mirrored (COLO)"),
}
"""For each RunState of QEMU: a readable name, and why the state forbids changes (empty if it permits them)."""

_MIGRATING: Final = frozenset(
    {"setup", "active", "pre-switchover", "device", "wait-unplug", "cancelling", "postcopy-active", "postcopy-paused", "postcopy-recover"}
)
"""Values of QEMU's MigrationStatus during a migration. Afterwards QEMU reports `completed`, `failed` or `cancelled`."""


def state_name(status: str) -> str:
    """Return a state's name for messages."""
    return _STATES.get(status, ("unknown", ""))[0]


def why_left_alone(status: str, migration: str) -> str:
    """Return why this state forbids changes; empty if it allows them.

    :param migration: status of the last migration; empty if none
    """
    state = _STATES.get(status)
    if state is None:
        return "the guest is in an unknown state"
    if state[1]:
        return state[1]
    return "the guest is being migrated" if migration in _MIGRATING else ""
