"""Age above which periodic readings are stale."""

from __future__ import annotations

from typing import Final

from mom_core import MomError, PluginContext, Snapshot

_STALE_PERIODS: Final = 3
_LEAST_STALE_SECONDS: Final = 10.0
"""Readings are stale if older than three periods, but never before 10 s."""


def stale_seconds(period: float, setting: float | None = None) -> float:
    """Return the age in seconds above which readings are stale.

    :param period: time between two readings in seconds
    :param setting: the operator's setting; None for the default
    """
    return max(_LEAST_STALE_SECONDS, _STALE_PERIODS * period) if setting is None else setting


def seen_lately(snapshot: Snapshot | None, context: PluginContext, lost: str) -> Snapshot:
    """Return `snapshot`. Raise `MomError` if it is None or too old.

    :param lost: consequence for the error message, such as `nothing can be said`
    """
    if snapshot is None:
        raise MomError("mom has not looked at the host yet", hint="ask again in a moment")
    age = context.monotonic() - snapshot.monotonic
    if age > stale_seconds(context.interval):
        raise MomError(f"mom has not looked at the host for {age:.0f} s: {lost}", hint="see `mom status`")
    return snapshot
