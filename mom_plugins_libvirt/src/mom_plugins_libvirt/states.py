"""libvirt's numbers for a guest's state, and the states where mom leaves a guest alone."""

from __future__ import annotations

from collections.abc import Mapping

# Numbers of virDomainState, virDomainPausedReason, virDomainRunningReason and virDomainJobType, which are part of libvirt's stable
# interface.
NO_STATE, RUNNING, IDLE, PAUSED, SHUTTING_DOWN, SHUT_OFF, CRASHED, SUSPENDED = range(8)

_STATES = {
    NO_STATE: "unknown", RUNNING: "running", IDLE: "idle", PAUSED: "paused", SHUTTING_DOWN: "shutting down", SHUT_OFF: "shut off",
    CRASHED: "crashed", SUSPENDED: "suspended",
}  # fmt: skip

_PAUSED = {
    2: "being migrated", 3: "being saved", 4: "being dumped", 5: "after an I/O error", 6: "by its watchdog", 7: "restored from a snapshot",
    8: "shutting down", 9: "being snapshotted", 10: "its kernel has crashed", 11: "starting up", 12: "being migrated (post-copy)",
    13: "its migration (post-copy) has failed", 14: "after a libvirt call failed",
}  # fmt: skip

_RUNNING = {10: "being migrated in (post-copy)", 11: "being migrated in (post-copy), which has failed"}
"""Reasons of running guests with memory on another host, where ballooned pages would be lost."""

_MOVED, _STARTING_UP = 2, 11
"""Reasons: of a guest that runs here since it was moved, and of one that is paused for that, on either side; of one whose QEMU begins."""

MOVES_AWAY = "being migrated out"
"""libvirt's job with a guest that is moved and still runs here."""

_JOBS = {
    1: "being started", 2: "being saved", 3: "being restored", 4: "being migrated in", 5: MOVES_AWAY, 6: "being snapshotted",
    7: "being reverted to a snapshot", 8: "being dumped",
}  # fmt: skip
"""virDomainJobOperation, without backups, during which libvirt allows changes."""


def state_name(state: int) -> str:
    """Return this state's name for people."""
    return _STATES.get(state, "unknown")


def why_left_alone(state: int, reason: int) -> str:
    """Return why nothing may be changed in this state; empty: it may."""
    if state in {NO_STATE, RUNNING, IDLE}:
        why = _RUNNING.get(reason, "") if state == RUNNING else ""
        return f"the guest is {why}" if why else ""
    why = _PAUSED.get(reason, "") if state == PAUSED else ""
    return f"the guest is {_STATES.get(state, 'in an unknown state')}" + (f", {why}" if why else "")


def may_come(state: int, reason: int) -> bool:
    """Tell whether a guest may still be arriving: libvirt delays questions about it."""
    return (state == PAUSED and reason in {_MOVED, _STARTING_UP}) or (state == RUNNING and reason in _RUNNING)


def has_come(state: int, reason: int) -> bool:
    """Tell whether a guest was moved here and not paused since."""
    return state == RUNNING and reason == _MOVED


def job_name(statistics: Mapping[str, object]) -> str:
    """Return libvirt's job with a guest from its `jobStats`; empty: none, or one that allows changes."""
    operation = statistics.get("operation")
    return _JOBS.get(operation, "") if statistics.get("type") and isinstance(operation, int) else ""
