"""The cycle: `collect` reads, `review` checks, `control` writes, `restore` restores; `engine` joins them."""

from mom_core.engine.engine import Engine
from mom_core.engine.schedule import Clock

__all__ = ["Clock", "Engine"]
