"""Addresses of this host's metrics for other machines."""

from __future__ import annotations

from typing import Protocol


class HostMetrics(Protocol):
    """Serves this host's metrics by HTTPS at `/metrics`."""

    @property
    def metrics_port(self) -> int | None:
        """The TCP port that other machines can connect to; None: they cannot. From any thread."""
