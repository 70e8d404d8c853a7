"""The units of what mom has brought on a host and what it has cost."""

from __future__ import annotations

from typing import Final

KIB_SECONDS_PER_GIB_HOUR: Final = float(1 << 20) * 3600
"""What is told in GiB hours is kept in KiB times seconds."""

HOURS_A_MONTH: Final = 730.0
"""A twelfth of a year."""
