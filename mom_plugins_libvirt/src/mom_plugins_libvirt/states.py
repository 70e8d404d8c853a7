"""libvirt's numbers for guests' states."""

from __future__ import annotations

from collections.abc import Mapping

# virDomainState, virDomainPausedReason, virDomainRunningReason and virDomainJobType: part of libvirt's stable
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
"""Memory is still on another host, so ballooned pages would be lost."""

_MOVED, _STARTING_UP = 2, 11
"""2 is virDomainRunningReason `migrated` and virDomainPausedReason `migration`. 11 is the paused reason `starting up`."""

MOVES_AWAY = "being migrated out"
"""Job of a guest that is migrating and still running here."""

_JOBS = {
    1: "being started", 2: "being saved", 3: "being restored", 4: "being migrated in", 5: MOVES_AWAY, 6: "being snapshotted",
    7: "being reverted to a snapshot", 8: "being dumped",
}  # fmt: skip
"""virDomainJobOperation, without backups: these allow changes."""


def state_name(state: int) -> str:
    """Return the state's name."""
    return _STATES.get(state, "unknown")


def why_left_alone(state: int, reason: int) -> str:
    """Return why this state forbids changes; empty if it allows them."""
    if state in {NO_STATE, RUNNING, IDLE}:
        why = _RUNNING.get(reason, "") if state == RUNNING else ""
        return f"the guest is {why}" if why else ""
    why = _PAUSED.get(reason, "") if state == PAUSED else ""
    return f"the guest is {_STATES.get(state, 'in an unknown state')}" + (f", {why}" if why else "")


def may_come(state: int, reason: int) -> bool:
    """Return whether a guest may be migrating to this host."""
    return (state == PAUSED and reason in {_MOVED, _STARTING_UP}) or (state == RUNNING and reason in _RUNNING)


def has_come(state: int, reason: int) -> bool:
    """Return whether a guest migrated here, and was not paused since then."""
    return state == RUNNING and reason == _MOVED


def job_name(statistics: Mapping[str, object]) -> str:
    """Return libvirt's job in `jobStats` that forbids changes; empty if there is none."""
    operation = statistics.get("operation")
    return _JOBS.get(operation, "") if statistics.get("type") and isinstance(operation, int) else ""
