"""Service that says where other machines can read this host's metrics."""

from __future__ import annotations

from typing import Protocol


class HostMetrics(Protocol):
    """Server of this host's metrics, by HTTPS at `/metrics`."""

    @property
    def metrics_port(self) -> int | None:
        """TCP port for other machines. None if they cannot connect. Thread-safe."""
