"""Command line: `frame` runs verbs (subcommands of `mom`)."""

from __future__ import annotations

import gc
from typing import Final

_OBJECTS_BETWEEN_COLLECTIONS: Final = 20_000


def main() -> int:
    """Run the command line of `mom`, and return its exit code."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
    from mom_daemon.cli.frame import mom, run_program

    return run_program(mom)
