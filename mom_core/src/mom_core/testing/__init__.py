"""For tests of plugins and policies: snapshots from plain values, engines from plugin classes."""

from __future__ import annotations

from mom_core.testing.engines import config_of
from mom_core.testing.snapshots import snapshot

__all__ = ["config_of", "snapshot"]
