"""Age from which repeated readings count as stale."""

from __future__ import annotations

from typing import Final

from mom_core import MomError, PluginContext, Snapshot

STALE_PERIODS: Final = 3
STALE_SECONDS: Final = 10.0
"""Periodic readings are stale after two missed ones, and after some seconds: a guest short of CPU misses one, and libvirt tells the age of
statistics in whole seconds."""


def stale_seconds(period: float, setting: float | None = None) -> float:
    """Return the age in seconds at which periodic readings count as stale.

    :param period: seconds between readings, such as `context.interval`
    :param setting: the operator's choice
    """
    return max(STALE_SECONDS, STALE_PERIODS * period) if setting is None else setting


def seen_lately(snapshot: Snapshot | None, context: PluginContext, lost: str) -> Snapshot:
    """Return the last snapshot if it is recent. Raises `MomError` otherwise.

    :param snapshot: None: there is none yet
    :param lost: consequence for the message, such as `nothing can be said`
    """
    if snapshot is None:
        raise MomError("mom has not looked at the host yet", hint="ask again in a moment")
    age = context.monotonic() - snapshot.monotonic
    if age > stale_seconds(context.interval):
        raise MomError(f"mom has not looked at the host for {age:.0f} s: {lost}", hint="see `mom status`")
    return snapshot
