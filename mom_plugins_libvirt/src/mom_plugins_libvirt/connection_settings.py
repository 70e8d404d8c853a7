"""Settings of a connection to libvirtd."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """URI of libvirtd, and timeouts in seconds."""

    uri: str = "qemu:///system"
    """libvirtd's URI, also its name in messages."""
    readonly: bool = False
    call_timeout: float = 2.0
    way: Callable[[], AbstractContextManager[str]] | None = None
    """Returns the URI for one attempt to connect, or raises `HypervisorError`."""
    longest_retry: float = 15.0
    most_open_calls: int = 10
    """Most calls that mom leaves hanging. Each uses one of libvirtd's threads (20 by default)."""
    most_opening: int = 3
    """Most attempts to connect that may hang at the same time."""
    most_events: int | None = None
    """Most events between two bulk calls; after more, mom abandons the connection. None for no limit."""
    lost_level: int = logging.WARNING
    """Log level for an abandoned connection."""
