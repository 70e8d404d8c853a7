"""What the log says of requests that are refused: who, and why, at a rate that no client decides. Never what was sent as a token."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

EVERY_SECONDS: Final = 60.0
"""How often one peer is told of for one reason."""

MOST_LINES: Final = 20
"""Lines in that time, of all peers together: an attacker can have as many addresses as it likes."""


@dataclass(slots=True)
class _PeerRefusals:
    """Refusals to a peer since it was told of last."""

    at: float
    silent: int = 0


class RefusalLog:
    """Logs refusals, the first of a peer at once and then one a minute with how many there were. Used by one thread.

    :param clock: seconds that never jump
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._told: dict[tuple[str, str], _PeerRefusals] = {}
        self._began = -EVERY_SECONDS
        self._lines = 0
        self._left_out = 0

    def note(self, who: str, why: str, level: int = logging.WARNING) -> None:
        """A request was refused.

        :param who: as the log names the peer: what tells peers apart, and perhaps more after a comma
        :param why: what was refused, or for what reason; one of a few texts
        """
        now, key = self._clock(), (who.partition(",")[0], why)
        if now - self._began >= EVERY_SECONDS:
            self._begin(now)
        told = self._told.get(key)
        if told is not None and now - told.at < EVERY_SECONDS:
            told.silent += 1
            return
        if self._lines >= MOST_LINES:
            self._left_out += 1
            return
        self._lines += 1
        more = f" ({told.silent} more since this was logged last)" if told is not None and told.silent else ""
        self._told[key] = _PeerRefusals(now)
        self._log.log(level, "refused to %s: %s%s", who, why, more)

    def _begin(self, now: float) -> None:
        """Another minute: what is older than the one before is forgotten, so that as little is remembered as is logged."""
        if self._left_out:
            self._log.warning("refused to others: %d more requests in the minute before", self._left_out)
        self._began, self._lines, self._left_out = now, 0, 0
        self._told = {key: told for key, told in self._told.items() if now - told.at < 2 * EVERY_SECONDS}
