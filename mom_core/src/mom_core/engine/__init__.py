"""The cycle: `schedule` says when, `collect` reads, `review` checks, `control` acts, `restore` puts back; `engine` joins them."""

from mom_core.engine.engine import Engine
from mom_core.engine.schedule import Clock

__all__ = ["Clock", "Engine"]
