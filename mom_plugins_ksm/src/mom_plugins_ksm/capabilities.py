"""Capabilities of hypervisors that the plugin uses, tested with `isinstance`. Calls come from several threads and take limited time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from mom_core import Value


@runtime_checkable
class KsmControl(Protocol):
    """KSM of a simulated host, or of a management system that owns the files."""

    def ksm_read(self) -> Mapping[str, Value]:
        """Return settings and counters, keyed by file name in /sys/kernel/mm/ksm.

        If known, add `ksmd_cpu_seconds`, and `shareable_kib`, guests' memory that KSM may merge.
        """

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        """Write these settings."""


@runtime_checkable
class KsmWriter(Protocol):
    """Writer of KSM files for an unprivileged mom."""

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        """Write these settings, keyed by file name."""
