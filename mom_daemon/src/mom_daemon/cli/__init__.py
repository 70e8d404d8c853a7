"""The command line: `frame` finds verbs and tells errors, every other module holds the verbs that it is named for."""

from __future__ import annotations

import gc
from typing import Final

_OBJECTS_BETWEEN_COLLECTIONS: Final = 20_000
"""Imports of a verb stay until its end. By Python's own 700 or 2,000, a verb with a configuration looked through it 130 times in vain:
a fifteenth of its time."""


def main() -> int:
    """Run the command line of `mom` and return its exit code; never raise."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
    from mom_daemon.cli.frame import mom, run_program

    return run_program(mom)
