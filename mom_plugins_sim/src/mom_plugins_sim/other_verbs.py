"""What a verb of one distribution leaves to a verb of another: as an operator would, by its name."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from mom_core import MomError
from mom_daemon import Verb

GROUP: Final = "mom.commands"
"""The entry-point group of verbs."""


def run_verb(name: str, *arguments: str) -> str:
    """Run `mom NAME ARGUMENTS` in this process; what it prints. Raises `MomError` when it does, and when no distribution has that verb."""
    for entry in entry_points(group=GROUP, name=name):
        said = io.StringIO()
        with redirect_stdout(said):
            verb = entry.load()
            command = EntryPoint(name, verb.target, GROUP).load() if isinstance(verb, Verb) else verb
            command.main(list(arguments), prog_name=f"mom {name}", standalone_mode=False)
        return said.getvalue()
    raise MomError(f"this needs `mom {name}`, which is not installed here", hint="`mom plugin list` says how to install it")
