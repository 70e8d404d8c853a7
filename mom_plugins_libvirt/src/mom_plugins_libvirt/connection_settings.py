"""Settings of a connection to libvirtd, and how long its calls may take."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

_LEAST_PATIENCE_SECONDS = 0.1
"""A healthy libvirtd answers in a few milliseconds, even with guests that work hard."""

_IMPATIENT_SECONDS = 5.0
"""For so long a call that did not come back halves the patience with the next ones."""


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Where libvirtd is, and for how many seconds to wait for it."""

    uri: str = "qemu:///system"
    """Name for people; also the URI to open without a `way`."""
    readonly: bool = False
    call_timeout: float = 2.0
    way: Callable[[], AbstractContextManager[str]] | None = None
    """Finds it anew for each attempt to connect: gives the URI to be opened, which holds for as long as that takes. Raises
    `HypervisorError`."""
    longest_retry: float = 15.0
    """Seconds between two attempts to connect at most."""
    most_open_calls: int = 10
    """Hanging calls that mom may leave behind, and one more that asks no guest. Each holds one of libvirtd's threads; it has 20 by
    default, for all clients."""
    most_opening: int = 3
    """So many attempts to connect may hang at once. TCP gives one up after two minutes; what hangs for longer would hang again."""
    most_events: int | None = None
    """With more events than this between two calls about all guests, the connection is given up; None: however many there are."""
    lost_level: int = logging.WARNING
    """How loudly it is logged that a connection is given up."""


class CallPatience:
    """How long to wait for a call on a single guest: less after others were given up. For several threads, and connections.

    However many guests hang, all of them together cost a cycle about two call timeouts.

    :param lasts: for so many seconds a call that was given up counts
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, lasts: float = _IMPATIENT_SECONDS) -> None:
        self._monotonic = monotonic
        self._lasts = lasts
        self._lock = threading.Lock()
        self._given_up: list[float] = []
        """When calls were given up lately."""

    def given_up(self) -> None:
        """Count a call that did not come back in time."""
        with self._lock:
            self._given_up.append(self._monotonic())

    def seconds(self, call_timeout: float) -> float:
        """Return how many seconds to wait for the next call."""
        with self._lock:
            now = self._monotonic()
            self._given_up = [given_up for given_up in self._given_up if now - given_up < self._lasts]
            patience: float = call_timeout / 2 ** len(self._given_up)
        return max(patience, min(_LEAST_PATIENCE_SECONDS, call_timeout))
