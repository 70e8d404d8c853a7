"""Command line: `frame` runs verbs and prints errors; the other modules have tools for verbs."""

from __future__ import annotations

import gc
from typing import Final

_OBJECTS_BETWEEN_COLLECTIONS: Final = 20_000
"""New objects between two collections of garbage: a verb's imports stay until its end. With Python's default of 700 or 2,000, 130
collections took a fifteenth of a verb's time."""


def main() -> int:
    """Run the command line of `mom` and return its exit code; never raise."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
    from mom_daemon.cli.frame import mom, run_program

    return run_program(mom)
