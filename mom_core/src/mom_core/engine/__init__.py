"""The cycle: `schedule` says when, `collect` reads, `review` checks, `control` acts, `restore` puts back; `engine` joins them."""

from __future__ import annotations

from mom_core.engine.clock import Clock
from mom_core.engine.engine import Engine

__all__ = ["Clock", "Engine"]
