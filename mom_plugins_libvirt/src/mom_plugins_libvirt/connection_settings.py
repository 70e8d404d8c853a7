"""Settings of a connection to libvirtd, and how long its calls may take."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass


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
