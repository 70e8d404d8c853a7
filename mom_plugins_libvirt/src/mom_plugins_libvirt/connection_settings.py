"""Settings of a connection to libvirtd, and how long its calls may take."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """libvirtd's address, and timeouts in seconds."""

    uri: str = "qemu:///system"
    """Name for people; also the URI to open without a `way`."""
    readonly: bool = False
    call_timeout: float = 2.0
    way: Callable[[], AbstractContextManager[str]] | None = None
    """Returns the URI for one attempt to connect, valid for its duration. Raises `HypervisorError`."""
    longest_retry: float = 15.0
    """Longest pause between attempts to connect."""
    most_open_calls: int = 10
    """Hanging calls that mom may leave behind, besides one that asks no guest. Each holds one of libvirtd's threads, 20 by default for all
    clients."""
    most_opening: int = 3
    """Attempts to connect that may hang at once. TCP gives up after two minutes; later ones would hang again."""
    most_events: int | None = None
    """With more events between two calls about all guests, the connection is given up; None: no limit."""
    lost_level: int = logging.WARNING
    """Log level for a connection that is given up."""
