"""From which age on what is read again and again says nothing about now."""

from __future__ import annotations

from typing import Final

STALE_PERIODS: Final = 3
STALE_SECONDS: Final = 10.0
"""What is read at intervals is stale when it was missed twice, and after some seconds: a guest that is short of CPU misses one, and libvirt
tells the age of statistics in whole seconds."""


def stale_seconds(period: float, setting: float | None = None) -> float:
    """The age in seconds from which on what is read again and again says nothing about now.

    :param period: every how many seconds it is read, such as `context.interval`
    :param setting: what the operator says instead; None: nothing
    """
    return max(STALE_SECONDS, STALE_PERIODS * period) if setting is None else setting
