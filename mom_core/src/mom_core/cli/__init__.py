"""The command line: `frame` finds verbs and tells errors, every other module holds the verbs that it is named for."""

from __future__ import annotations


def main() -> int:
    """The entry point of `mom`: run what the command line says, and return the exit code. Never raises."""
    from mom_core.cli.frame import run

    return run()
