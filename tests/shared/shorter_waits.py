"""Start mom as a process with shorter waits."""

import sys
from collections.abc import Mapping

_PROGRAM = """
import sys
from importlib import import_module
from mom_daemon.cli import main
for name, seconds in {}.items():
    module, _, constant = name.rpartition(".")
    assert hasattr(import_module(module), constant), name
    setattr(import_module(module), constant, seconds)
sys.exit(main())
"""


def mom_with(waits: Mapping[str, float]) -> list[str]:
    """Return the first words of a command that runs mom with these constants, keyed by module."""
    return [sys.executable, "-c", _PROGRAM.format(dict(waits))]
