"""The cycle: `collect` reads, `review` checks, `control` writes, `restore` undoes the writes; `engine` runs them all."""

from mom_core.engine.engine import Engine
from mom_core.engine.schedule import Clock

__all__ = ["Clock", "Engine"]
