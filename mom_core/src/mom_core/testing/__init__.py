"""For tests of plugins and policies: snapshots from plain values."""

from __future__ import annotations

from mom_core.testing.snapshots import snapshot

__all__ = ["snapshot"]
